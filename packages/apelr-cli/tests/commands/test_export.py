"""`apelr export --format safetensors`, and the way back: bit for bit, complete or not at all, errors in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from apelr_model import TransformerConfig, TransformerLMConfig, V1Config, V2Config, load_checkpoint

TIED = {"token_dim": 8, "hidden_dim": 8, "tie_embeddings": True}
CONFIGS = {
    "V1": None,
    "V2, transformer": V2Config(hidden_dim=8, executor=TransformerConfig(num_heads=2), num_plan_states=3),
    "V1, tied": V1Config(fusion_dim=8, num_plan_states=3, **TIED),
    "plain, tied": TransformerLMConfig(**TIED),
}


@pytest.fixture
def exported(apelr: Any, make_checkpoint: Any, bpe: Any, tmp_path: Path) -> Path:
    """The folder of one small model."""
    done = apelr("export", make_checkpoint(bpe), tmp_path / "out", "--format", "safetensors")
    assert done.exit_code == 0, done.output
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same(found: Path, wanted: Path) -> None:
    one, two = load_checkpoint(found), load_checkpoint(wanted)
    assert (one.model_config, one.step, one.vocab_size) == (two.model_config, two.step, two.vocab_size)
    assert (one.tokenizer, one.tokenizer_fingerprint) == (two.tokenizer, two.tokenizer_fingerprint)
    assert one.run_config == two.run_config
    assert one.model.keys() == two.model.keys()
    for name, tensor in one.model.items():
        assert tensor.dtype == two.model[name].dtype
        assert torch.equal(tensor, two.model[name]), name


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_bit_for_bit(
    apelr: Any, make_checkpoint: Any, bpe: Any, tmp_path: Path, config: Any, dtype: torch.dtype
) -> None:
    changes = {"step": 12, "run_config": {"seed": 3, "train": {"lr": 1e-3}}}
    run = make_checkpoint(bpe, dtype=dtype, config=config, changes=changes)
    done = apelr("export", run, tmp_path / "out", "--format", "safetensors")
    assert done.output == (
        f"read {run}: {load_checkpoint(run).model_config.version}, step 12\n"
        f"wrote {tmp_path / 'out'}: safetensors, with its tokenizer of {bpe.vocab_size} ids\n"
    )
    assert names(tmp_path / "out") == ["config.json", "model.safetensors", "tokenizer.json"]
    assert names(tmp_path) == ["out", "run"]
    back = apelr("convert", tmp_path / "out", tmp_path / "back.pt")
    assert back.exit_code == 0, back.output
    assert f"read {tmp_path / 'out'}: an export" in back.output
    assert_same(tmp_path / "back.pt", run)


def test_minus_infinity_and_char_tokenizers_come_through(
    apelr: Any, make_checkpoint: Any, char: Any, tmp_path: Path
) -> None:
    run = make_checkpoint(char, never=[3, 5])
    assert apelr("export", run, tmp_path / "out", "--format", "safetensors").exit_code == 0
    assert apelr("convert", tmp_path / "out", tmp_path / "back.pt").exit_code == 0
    assert_same(tmp_path / "back.pt", run)


def test_the_converted_file_scores_the_same(apelr: Any, exported: Path, tmp_path: Path) -> None:
    apelr("convert", exported, tmp_path / "back.pt")
    text = ("--text", "the cat", "--format", "json", "--checkpoint")
    assert apelr("score", *text, tmp_path / "back.pt").output == apelr("score", *text, tmp_path / "run").output


def test_what_is_there_is_kept_unless_forced_and_then_only_an_export_goes(
    apelr: Any, make_checkpoint: Any, bpe: Any, exported: Path, tmp_path: Path
) -> None:
    run, mark = tmp_path / "run", exported / "mark"
    mark.touch()
    refused = apelr("export", run, exported, "--format", "safetensors")
    assert refused.exit_code == 1
    assert refused.output == f"Error: {exported} exists: --force replaces an earlier export\n"
    assert mark.exists()
    assert apelr("export", run, exported, "--format", "safetensors", "--force").exit_code == 0
    assert not mark.exists()
    refused = apelr("export", run, run, "--format", "safetensors", "--force")
    assert refused.output == f"Error: {run} is no export of ours: remove it first, --force does not\n"
    assert (run / "checkpoint.pt").exists()
    refused = apelr("export", run, tmp_path / "no" / "where", "--format", "safetensors")
    assert refused.output == f"Error: the folder {tmp_path / 'no'} does not exist\n"


def test_where_it_fails_nothing_is_left(
    apelr: Any, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apelr_cli import exporting

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device", "model.safetensors")

    before = (exported / "model.safetensors").read_bytes()
    monkeypatch.setattr(exporting, "save_file", full)
    for target in ("new", "out"):
        done = apelr("export", tmp_path / "run", tmp_path / target, "--format", "safetensors", "--force")
        assert (done.exit_code, done.stderr) == (1, "Error: model.safetensors: No space left on device\n")
    assert names(tmp_path) == ["out", "run"]
    assert (exported / "model.safetensors").read_bytes() == before


def test_hf_without_the_extra_says_what_to_install(
    apelr: Any, make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apelr_cli import exporting

    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    done = apelr("export", make_checkpoint(), tmp_path / "out")
    assert (done.exit_code, done.output) == (
        1,
        "Error: transformers is not installed; install it with: pip install 'apelr-cli[transformers]'\n",
    )
    assert names(tmp_path) == ["run"]


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content["apelr"] = {key: value for key, value in {**content["apelr"], **changes}.items() if value is not None}
    path.write_text(json.dumps(content))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_bias(path: Path) -> None:
    tensors = load_file(path)
    del tensors["head.out_proj.bias"]
    save_file(tensors, path)


DAMAGES = {
    "weights cut short": ("model.safetensors", halve, "model.safetensors is not a safetensors file or is damaged"),
    "a tensor missing": ("model.safetensors", without_bias, "lacks the tensors head.out_proj.bias"),
    "a key missing": ("config.json", lambda path: change_json(path, step=None), "lacks the key 'step'"),
    "a key of another type": (
        "config.json",
        lambda path: change_json(path, step="x"),
        "key 'step' must be int, got str",
    ),
    "a later format": ("config.json", lambda path: change_json(path, format_version=9), "newer than this installation"),
    "another vocabulary": ("config.json", lambda path: change_json(path, vocab_size=9), "has shape"),
    "a tokenizer cut short": ("tokenizer.json", halve, "its tokenizer cannot be read"),
    "another tokenizer": (
        "tokenizer.json",
        lambda path: path.write_text(path.read_text().replace("<eos>", "<end>")),
        "has the fingerprint",
    ),
    "no tokenizer": ("tokenizer.json", Path.unlink, "carries no tokenizer"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_one_line(apelr: Any, exported: Path, tmp_path: Path, damage: str) -> None:
    name, change, message = DAMAGES[damage]
    change(exported / name)
    done = apelr("convert", exported, tmp_path / "back.pt")
    assert done.exit_code == 1
    assert message in done.output
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1
    assert str(exported) in done.output
    assert not (tmp_path / "back.pt").exists()


def test_a_config_that_is_a_device_or_no_json_is_no_export(apelr: Any, exported: Path, tmp_path: Path) -> None:
    config = exported / "config.json"
    for content in ("[1]", "{", '{"model_type": "gpt2"}'):
        config.write_text(content)
        done = apelr("convert", exported, tmp_path / "back.pt")
        assert (
            done.output
            == f"Error: checkpoint not found: {exported / 'checkpoint.pt'} (the newest checkpoint of the run)\n"
        )
    config.unlink()
    config.symlink_to("/dev/zero")
    assert apelr("convert", exported, tmp_path / "back.pt").exit_code == 1
