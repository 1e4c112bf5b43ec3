"""`apelr train` from the token cache: the same run as from memory, whoever wrote the cache."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result

from apelr_model import load_checkpoint

Train = Callable[..., Result]
WORDS = "The cat sat on the mat. A dog ran to the sea! Who saw it? The cat did, and ran home.\n"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """Rows of text."""
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n}. {WORDS}"}) + "\n" for n in range(40)), encoding="utf-8")
    return path


@pytest.fixture
def train(apelr: Callable[..., Result], tmp_path: Path, text_file: Path) -> Train:
    """Runs `apelr train` on a tiny config; True as the first argument turns the cache on."""
    path = tmp_path / "tiny.yaml"
    content = {
        "seed": 3,
        "device": "cpu",
        "model": {
            "version": "v1_filtered_mixture",
            "num_plan_states": 3,
            "chunk_size": 4,
            "token_dim": 8,
            "hidden_dim": 12,
            "fusion_dim": 8,
            "dropout": 0.2,
        },
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {
            "source": "text",
            "path": str(text_file),
            "val_fraction": 0.1,
            "token_cache_dir": str(tmp_path / "cache"),
        },
        "train": {
            "seq_len": 10,
            "batch_size": 4,
            "max_steps": 6,
            "warmup_steps": 2,
            "log_interval": 1,
            "save_interval": 2,
        },
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")

    def run(cached: bool, *arguments: object) -> Result:
        overrides = ["--set", "data.token_cache=true"] if cached else []
        return apelr("train", "--config", path, *overrides, *arguments)

    return run


def assert_same_run(first: Path, second: Path) -> None:
    """The same losses, and parameters that are equal bit for bit."""
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (first, second)]
    losses = [[line["loss"] for line in each if line["kind"] == "train"] for each in lines]
    assert losses[0] == losses[1]
    left, right = load_checkpoint(first), load_checkpoint(second)
    assert left.step == right.step == 6
    assert all(torch.equal(left.model[name], right.model[name]) for name in left.model)
    assert left.training is not None
    assert right.training is not None
    assert left.training["data"] == right.training["data"]


@pytest.mark.parametrize("mask", ["false", "true"])
def test_a_run_from_the_cache_equals_one_from_memory(train: Train, tmp_path: Path, mask: str) -> None:
    masked = ("--set", f"data.document_mask={mask}")
    for cached, name in ((False, "memory"), (True, "written"), (True, "read")):
        result = train(cached, "--out", tmp_path / name, *masked)
        assert result.exit_code == 0, result.output
        assert ("fitting the tokenizer" in result.stderr) is (name == "written")
        assert (f", from {tmp_path / 'cache'}" in result.stderr) is cached
    assert_same_run(tmp_path / "memory", tmp_path / "written")
    assert_same_run(tmp_path / "memory", tmp_path / "read")


@pytest.mark.parametrize("cached", [True, False])
def test_a_run_may_be_taken_up_with_its_ids_kept_elsewhere(train: Train, tmp_path: Path, cached: bool) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(cached, "--out", whole)
    shutil.copytree(whole, run)
    result = train(not cached, "--out", run, "--resume", run / "checkpoints" / "step-00000002.pt")
    assert result.exit_code == 0, result.output
    assert f"resuming {run} at step 2" in result.stderr
    assert_same_run(whole, run)


def test_a_prepared_cache_is_trained_from(train: Train, apelr: Callable[..., Result], tmp_path: Path) -> None:
    assert apelr("data", "prepare", "--config", tmp_path / "tiny.yaml").exit_code == 0
    result = train(True, "--out", tmp_path / "run")
    assert "writing" not in result.stderr
    assert "fitting" not in result.stderr


def test_a_damaged_cache_is_one_line_before_a_run_begins(train: Train, tmp_path: Path) -> None:
    train(True, "--out", tmp_path / "run")
    (path,) = (tmp_path / "cache").rglob("train-ids*")
    path.write_bytes(path.read_bytes()[:-1])
    result = train(True, "--out", tmp_path / "other")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: token cache: {path}: it has ")
    assert not (tmp_path / "other").exists()
    mended = train(True, "--out", tmp_path / "other", "--set", "data.reuse_token_cache=false")
    assert mended.exit_code == 0
    assert_same_run(tmp_path / "run", tmp_path / "other")


def test_changed_text_is_read_anew_and_refused_by_a_run_to_go_on_with(
    train: Train, tmp_path: Path, text_file: Path
) -> None:
    run = tmp_path / "run"
    train(True, "--out", run)
    text_file.write_text(text_file.read_text(encoding="utf-8") + '{"text": "The end."}\n', encoding="utf-8")
    result = train(True, "--out", run, "--resume", run / "checkpoints" / "step-00000002.pt")
    assert result.exit_code == 1
    assert "--resume continues the same run, but its text has changed" in result.stderr
    assert train(True, "--out", tmp_path / "new").exit_code == 0


def test_a_dry_run_tells_where_the_ids_are_kept_and_writes_nothing(train: Train, tmp_path: Path) -> None:
    result = train(True, "--dry-run")
    assert f"           ids kept in {tmp_path / 'cache'}\n" in result.stdout
    assert not (tmp_path / "cache").exists()
