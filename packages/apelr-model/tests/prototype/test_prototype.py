"""Files of the prototype: how they are recognised, and the keys beside the tensors."""

import pytest
import torch

from apelr_model import CheckpointError, RecordedTokenizer, load_checkpoint, write_checkpoint


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("version", [1, 2])
def test_a_newer_file(make_content, write, version):
    found = load_checkpoint(write(make_content(version)))
    assert found.model_config.version == {1: "v1_filtered_mixture", 2: "v2_planner_required"}[version]
    assert (found.vocab_size, found.step, found.notices) == (11, 60, ())
    assert found.tokenizer is found.tokenizer_fingerprint is None
    assert found.recorded_tokenizer == RecordedTokenizer("runs/old/tokenizer.json", "0" * 64)
    assert found.run_config == {}


def test_an_oldest_file(make_content, write):
    found = load_checkpoint(write(make_content(metadata=False)))
    assert (found.model_config.version, found.step, found.notices) == ("v1_filtered_mixture", 0, ())
    assert found.recorded_tokenizer == RecordedTokenizer("runs/old/tokenizer.json", None)


def test_a_newest_file_with_a_distributed_key(make_content, write):
    content = make_content(2) | {"distributed": {"world_size": 8}, "optimizer_state_dict": None}
    assert load_checkpoint(write(content)).notices == ()


def test_a_file_without_a_tokenizers_path(make_content, write):
    content = make_content()
    del content["tokenizer_path"]
    assert load_checkpoint(write(content)).recorded_tokenizer.path is None


def test_other_keys_are_ignored_with_a_note(make_content, write):
    path = write(make_content() | {"zeta": 1, "alpha": [2]})
    assert load_checkpoint(path).notices == (f"{path}: keys that mean nothing here are ignored: alpha, zeta",)


def test_loading_leaves_the_random_state_alone(make_content, write):
    content = make_content()
    del content["model_state_dict"]["chunk_post_proj.bias"]
    path = write(content)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_newer_schema_is_refused(make_content, write):
    message = " has config_schema_version 3; those known are 1 and 2"
    assert refusal(write(make_content() | {"config_schema_version": 3})) == message


def test_a_file_without_a_config(make_content, write):
    content = make_content()
    del content["model_config"]
    assert refusal(write(content)) == " has the form of the prototype's checkpoints but lacks the key 'model_config'"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model_state_dict", [1], "dict, got list"),
        ("model_config", "text", "dict, got str"),
        ("tokenizer_path", 3, "str or null, got int"),
        ("train_config", [], "dict or null, got list"),
        ("config_schema_version", "2", "int, got str"),
        ("model_version", 2, "str or null, got int"),
        ("optimizer_state_dict", [], "dict or null, got list"),
        ("global_step", 1.5, "int, got float"),
        ("global_step", True, "int, got bool"),
        ("tokenizer_hash", torch.zeros(2), "str or null, got Tensor"),
        ("tokenizer_type", {}, "str or null, got dict"),
    ],
)
def test_keys_of_another_type(make_content, write, key, value, expected):
    assert refusal(write(make_content() | {key: value})) == f": key {key!r} must be {expected}"


@pytest.mark.parametrize("step", [-1, 2**63])
def test_a_step_that_cannot_be(make_content, write, step):
    assert refusal(write(make_content() | {"global_step": step})).startswith(": key 'global_step' must be between 0")


def test_our_own_format_is_never_taken_for_the_prototypes(make_content, write):
    message = " is not an APEL-R checkpoint: it has no key 'format' of value 'apelr-checkpoint'"
    assert refusal(write(make_content() | {"format": "other"})) == message


@pytest.mark.parametrize("version", [1, 2])
def test_written_in_todays_form_it_is_the_same_model(make_content, write, tmp_path, version):
    found = load_checkpoint(write(make_content(version)))
    write_checkpoint(tmp_path / "new.pt", found)
    again = load_checkpoint(tmp_path / "new.pt")
    assert again.model_config == found.model_config
    assert all(torch.equal(again.model[name], found.model[name]) for name in found.model)
    assert again.training["optimizer"]["state"].keys() == found.training["optimizer"]["state"].keys()
    assert (again.step, again.recorded_tokenizer, again.notices) == (60, None, ())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "new.pt"]
