"""The prototype's tensors: names, shapes, what may be missing, and where each goes."""

import math

import pytest
import torch

from apelr_model import CheckpointError, load_checkpoint

V1_NAMES = {
    "executor.token_emb.weight": "token_emb.weight",
    "executor.gru.weight_hh_l1": "backbone.weight_hh_l1",
    "planner.initial_logits": "planner_init_logits",
    "planner.transition_logits": "planner_transition_logits",
    "planner.context_proj.weight": "planner_ctx_proj.weight",
    "planner.recognizer.bias": "chunk_post_proj.bias",
    "head.state_proj.weight": "state_proj.weight",
    "head.plan_emb.weight": "plan_emb.weight",
    "head.out_proj.bias": "out_proj.bias",
    "head.plan_vocab_bias": "plan_vocab_bias",
}


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize(("ours", "theirs"), V1_NAMES.items())
def test_v1_tensors_are_taken_as_they_are(make_content, write, ours, theirs):
    content = make_content(1)
    assert torch.equal(load_checkpoint(write(content)).model[ours], content["model_state_dict"][theirs])


def test_v2_experts_are_one_matrix_state_by_state(make_content, write):
    content = make_content(2)
    found, state = load_checkpoint(write(content)).model, content["model_state_dict"]
    for k in range(3):
        assert torch.equal(found["head.weight"].view(3, 11, 7)[k], state[f"expert_heads.{k}.weight"])
        assert torch.equal(found["head.bias"][k], state[f"expert_heads.{k}.bias"])


@pytest.mark.parametrize("scale", [0.0, 0.5, 3])
def test_v2_evidence_is_the_sum_of_both_projections(make_content, write, scale):
    content = make_content(2, planner_context_scale=scale)
    found, state = load_checkpoint(write(content)), content["model_state_dict"]
    assert found.model_config.planner_context_scale == 1
    for end in ("weight", "bias"):
        wanted = scale * state[f"planner_boundary_proj.{end}"].double() + state[f"planner_obs_proj.{end}"].double()
        assert torch.equal(found.model[f"planner.context_proj.{end}"], wanted.float())


def test_the_temperature_of_the_file_is_the_models(make_content, write):
    model = load_checkpoint(write(make_content(2, planner_temperature=0.5))).build_model()
    assert model.policy.temperature == 0.5


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("every", [1, 2])
def test_names_from_compiled_runs(make_content, write, version, every):
    content = make_content(version)
    plain = load_checkpoint(write(content)).model
    state = content["model_state_dict"]
    renamed = {("_orig_mod." if i % every == 0 else "") + name: t for i, (name, t) in enumerate(state.items())}
    found = load_checkpoint(write(content | {"model_state_dict": renamed})).model
    assert plain.keys() == found.keys()
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_two_names_that_become_one(make_content, write):
    content = make_content()
    content["model_state_dict"]["_orig_mod.out_proj.bias"] = torch.zeros(11)
    assert refusal(write(content)) == " holds two tensors named out_proj.bias"


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (1, ("chunk_post_proj.weight", "chunk_post_proj.bias")),
        (1, ("chunk_post_proj.bias",)),
        (2, ("plan_state_emb.weight", "future_chunk_proj.weight")),
    ],
)
def test_missing_optional_tensors_are_named_in_one_warning(make_content, write, version, missing):
    content = make_content(version)
    for name in missing:
        del content["model_state_dict"][name]
    path = write(content)
    first, second = load_checkpoint(path), load_checkpoint(path)
    (notice,) = first.notices
    assert notice == (
        f"{path}: optional tensors are missing: {', '.join(sorted(missing))}; they get fresh values, which only "
        "training losses and their diagnostics read"
    )
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    assert all(bool(tensor.any()) for tensor in first.model.values())


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (1, "out_proj.bias"),
        (1, "planner_ctx_proj.weight"),
        (1, "backbone.bias_hh_l1"),
        (2, "expert_heads.2.weight"),
        (2, "planner_obs_proj.bias"),
        (2, "planner_init_logits"),
    ],
)
def test_missing_tensors_that_predictions_need_are_refused(make_content, write, version, name):
    content = make_content(version)
    del content["model_state_dict"][name]
    assert refusal(write(content)) == f" lacks the tensors {name}"


def test_unexpected_tensors_are_refused_unless_allowed(make_content, write):
    content = make_content()
    content["model_state_dict"] = {"zeta": torch.zeros(2), **content["model_state_dict"], "alpha\n": torch.zeros(3)}
    path = write(content)
    assert refusal(path) == r" has unexpected tensors 'alpha\n', zeta; --allow-unexpected leaves them out"
    found = load_checkpoint(path, allow_unexpected=True)
    assert found.notices == (rf"{path}: unexpected tensors are left out: 'alpha\n', zeta",)
    assert found.model.keys() == load_checkpoint(write(make_content())).model.keys()


@pytest.mark.parametrize(
    ("version", "name", "value", "message"),
    [
        (1, "out_proj.weight", torch.zeros(11, 5), "has shape [11, 5], the config needs [11, 6]"),
        (1, "token_emb.weight", torch.zeros(12, 5), "has shape [12, 5], the config needs [11, 5]"),
        (1, "planner_transition_logits", torch.zeros(3), "has shape [3], the config needs [3, 3]"),
        (1, "out_proj.bias", "text", "has shape str, the config needs [11]"),
        (1, "out_proj.bias", torch.zeros(11, dtype=torch.int64), "is not a dense tensor of floating-point numbers"),
        (1, "out_proj.bias", torch.zeros(1).expand(11), "is not a dense tensor of floating-point numbers"),
        (1, "out_proj.bias", torch.full((11,), float("nan")), "holds NaN or plus infinity"),
        (2, "expert_heads.1.bias", torch.full((11,), float("inf")), "holds NaN or plus infinity"),
        (1, "out_proj.bias", torch.full((11,), -math.inf), "has a row of minus infinity alone: it leaves no choice"),
        (
            2,
            "expert_heads.1.bias",
            torch.full((11,), -math.inf),
            "has a row of minus infinity alone: it leaves no choice",
        ),
        (
            1,
            "planner_init_logits",
            torch.full((3,), -math.inf),
            "has a row of minus infinity alone: it leaves no choice",
        ),
        (
            2,
            "planner_boundary_proj.bias",
            torch.tensor([0.0, -math.inf, 0.0]),
            "holds minus infinity, which only a planner's logits and a head's biases may",
        ),
        (2, "expert_heads.1.weight", torch.zeros(11, 8), "has shape [11, 8], the config needs [11, 7]"),
    ],
)
def test_tensors_that_disagree_with_the_config(make_content, write, version, name, value, message):
    content = make_content(version)
    content["model_state_dict"][name] = value
    assert refusal(write(content)) == f": tensor {name} {message}"


def test_minus_infinity_is_a_probability_of_zero(make_content, write):
    content = make_content()
    content["model_state_dict"]["out_proj.bias"][3] = float("-inf")
    assert load_checkpoint(write(content)).model["head.out_proj.bias"][3] == float("-inf")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_numbers_is_kept(make_content, write, dtype):
    assert {p.dtype for p in load_checkpoint(write(make_content(dtype=dtype))).build_model().parameters()} == {dtype}


def test_mixed_types_become_the_one_that_holds_all(make_content, write):
    content = make_content(dtype=torch.float16)
    content["model_state_dict"]["out_proj.bias"] = torch.zeros(11, dtype=torch.bfloat16)
    found = load_checkpoint(write(content)).build_model()
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}


@pytest.mark.parametrize(("name", "count"), [("num_layers", 10**9), ("num_plan_states", 10**9)])
def test_more_layers_or_experts_than_tensors(make_content, write, name, count):
    content = make_content(2)
    content["model_config"].update({name: count, "num_experts": None})
    held = len(content["model_state_dict"])
    assert refusal(write(content)) == f" holds {held} tensors, too few for {name} {count}"
