"""The commands on a run whose newest checkpoint is a folder of shards."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from apelr_model import World, load_checkpoint, save_checkpoint
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]


@pytest.fixture
def runs(make_checkpoint: Callable[..., Path], bpe: Tokenizer, tmp_path: Path) -> tuple[Path, Path]:
    """The same checkpoint as a run's file and as another run's shards; the latter is not finished, and so says."""
    whole, shards = make_checkpoint(bpe), tmp_path / "shards"
    save_checkpoint(shards, load_checkpoint(whole), shards=World())
    (shards / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 2.0}\n', encoding="utf-8")
    assert (shards / "checkpoint.json").is_file()
    assert not (shards / "checkpoint.pt").exists()
    return whole, shards


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "--prompt", "ab", "--max-new-tokens", 4),
        ("score", "--text", "abc"),
        ("eval", "--set", "data.source=storyworld", "--set", "data.max_val_examples=1", "--seq-len", 32),
    ],
    ids=lambda command: command[0],
)
def test_it_is_used_as_a_file_is(apelr: Run, runs: tuple[Path, Path], command: tuple[object, ...]) -> None:
    whole, shards = runs
    name, *options = command
    wanted = apelr(name, "--checkpoint", whole, "--device", "cpu", *options)
    assert wanted.exit_code == 0, wanted.stderr
    for place in (shards, shards / "checkpoint.json", shards / "checkpoints" / "step-00000000"):
        assert apelr(name, "--checkpoint", place, "--device", "cpu", *options).stdout == wanted.stdout


def test_it_is_converted_and_exported(apelr: Run, runs: tuple[Path, Path], tmp_path: Path) -> None:
    whole, shards = runs
    assert apelr("convert", shards, tmp_path / "one.pt").exit_code == 0
    assert apelr("export", shards, tmp_path / "plain", "--format", "safetensors").exit_code == 0
    assert apelr("convert", tmp_path / "plain", tmp_path / "back.pt").exit_code == 0
    wanted = load_checkpoint(whole).model
    for name in ("one.pt", "back.pt"):
        found = load_checkpoint(tmp_path / name).model
        assert all(found[key].equal(tensor) for key, tensor in wanted.items())


def test_it_has_its_page(apelr: Run, runs: tuple[Path, Path]) -> None:
    result = apelr("report", runs[1], "--no-text", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert (runs[1] / "report.html").is_file()
