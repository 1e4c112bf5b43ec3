"""`apelr train` killed at any moment, on disks that fail, in folders that are damaged: what stays, and what it says."""

import importlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result

from apelr_model import load_checkpoint

Faulty = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of 8 steps with dropout and accumulation, a save every 2 steps, and an evaluation after each."""
    folder = tmp_path_factory.mktemp("config")
    text = folder / "text.txt"
    text.write_text("".join(f"{n}. The cat sat on the mat. Who saw it?\n" for n in range(40)), encoding="utf-8")
    sizes = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 4, "hidden_dim": 6, "fusion_dim": 4, "dropout": 0.2}
    loop = {"max_steps": 8, "log_interval": 1, "eval_interval": 2, "save_interval": 2, "val_batches": 1}
    content = {
        "device": "cpu",
        "model": {"version": "v1_filtered_mixture", **sizes},
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {"source": "text", "path": str(text), "val_fraction": 0.1},
        "train": {"seq_len": 8, "batch_size": 4, "grad_accum_steps": 2, "lr": 0.01, "keep_checkpoints": 2, **loop},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return ["train", "--config", str(path), "--resume", "auto"]


@pytest.fixture(scope="module")
def whole(arguments: list[str], faulty_apelr: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert faulty_apelr(*arguments, "--out", folder, watched=[folder])["code"] == 0
    return folder


@pytest.fixture(scope="module")
def results(faulty_runs: ModuleType) -> Callable[[Path], list[Any]]:
    """All that a finished run has found out."""
    return faulty_runs.results  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def checkpoints(faulty_runs: ModuleType) -> Callable[[Path], list[int]]:
    """The steps of the checkpoints in a folder, each of which is whole."""
    return faulty_runs.checkpoints  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def assert_equal_end(faulty_runs: ModuleType) -> Callable[[Path, Path], None]:
    """Both runs have ended with the same numbers, bit for bit, and have kept the same checkpoints."""

    def compare(run: Path, whole: Path) -> None:
        assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))
        assert faulty_runs.checkpoints(run) == faulty_runs.checkpoints(whole)

    return compare


def test_the_newest_and_the_best_stay(whole: Path, checkpoints: Callable[[Path], list[int]]) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    nll = {line["step"]: line["nll"] for line in lines if line["kind"] == "validation"}
    assert checkpoints(whole) == sorted({min(nll, key=lambda step: nll[step]), 6, 8})


@pytest.mark.parametrize("keep", ["1", "0", "-3"])
def test_one_checkpoint_is_too_few(
    apelr: Callable[..., Result], arguments: list[str], tmp_path: Path, keep: str
) -> None:
    result = apelr(*arguments, "--out", tmp_path / "run", "--set", f"train.keep_checkpoints={keep}")
    assert result.exit_code == 1
    rule = "null or >= 2: one that is whole, whatever becomes of the other"
    assert result.stderr == f"Error: train.keep_checkpoints must be {rule}, got {keep}\n"


MOMENTS = {
    "before anything is saved": {"kind": "rename", "name": "config.yaml", "at": 1},
    "in the first save": {"kind": "write", "name": "step-00000000.pt.tmp", "at": 20},
    "between the two names of the first save": {"kind": "link", "name": ".pt.tmp", "at": 1},
    "in the middle of a file": {"kind": "write", "name": "step-00000004.pt.tmp", "at": 30},
    "before the flush": {"kind": "flush", "name": "step-00000004.pt.tmp", "at": 1},
    "before the rename": {"kind": "rename", "name": "step-00000004.pt", "at": 1},
    "before the flush of the folder": {"kind": "flush", "name": "checkpoints", "at": 3},
    "between the two names": {"kind": "link", "name": "step-00000004.pt.tmp", "at": 1},
    "before checkpoint.pt": {"kind": "rename", "name": "checkpoint.pt", "at": 3},
    "before an old checkpoint goes": {"kind": "remove", "name": "step-00000000.pt", "at": 1},
    "before an old one goes at the end": {"kind": "remove", "name": "step-00000004.pt", "at": 1},
    "in the metrics": {"kind": "write", "name": "metrics.jsonl", "at": 5},
    "in the last file": {"kind": "rename", "name": "metrics.json", "at": 1},
}
"""Where a run is killed."""


IN_BACKGROUND = ("--set", "train.async_save=true")
MOMENTS_IN_BACKGROUND = {
    "when the state has been copied": {"kind": "open", "name": "step-00000004.pt.tmp", "at": 1},
    **{name: MOMENTS[name] for name in ("in the middle of a file", "before checkpoint.pt")},
    "before an old checkpoint goes": MOMENTS["before an old checkpoint goes"],
    "in the last save": {"kind": "write", "name": "step-00000008.pt.tmp", "at": 9},
}


@pytest.mark.parametrize("moment", MOMENTS_IN_BACKGROUND)
def test_a_run_killed_while_it_saves_in_the_background_ends_equal_too(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    moment: str,
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    """Equal to the run that waits for its saves."""
    run = tmp_path / "run"
    background = [*arguments, *IN_BACKGROUND, "--out", run]
    fault = {**MOMENTS_IN_BACKGROUND[moment], "do": "KILL"}
    killed = faulty_apelr(*background, watched=[run], fault=fault)
    assert killed["code"] == -9, killed["said"]
    load_checkpoint(run)
    resumed = faulty_apelr(*background, watched=[run])
    assert resumed["code"] == 0, resumed["said"]
    assert_equal_end(run, whole)
    assert not list(run.rglob("*.tmp"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_while_it_writes_goes_on_and_ends_equal_bit_for_bit(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    moment: str,
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    run = tmp_path / "run"
    killed = faulty_apelr(*arguments, "--out", run, watched=[run], fault={**MOMENTS[moment], "do": "KILL"})
    assert killed["code"] == -9, killed["said"]
    assert "Traceback" not in killed["said"]
    if (run / "checkpoint.pt").exists():
        load_checkpoint(run)
    resumed = faulty_apelr(*arguments, "--out", run, watched=[run])
    assert resumed["code"] == 0, resumed["said"]
    assert_equal_end(run, whole)
    assert not list(run.rglob("*.tmp"))


IN_SHARDS = ("--set", "train.sharded_checkpoints=true")
MOMENTS_IN_SHARDS = {
    "in the first save": ({"kind": "flush", "name": "step-00000000.tmp/manifest.json", "at": 1}, ()),
    "before a shard is flushed": ({"kind": "flush", "name": "00001.safetensors", "at": 3}, IN_BACKGROUND),
    "before the manifest": ({"kind": "open", "name": "step-00000004.tmp/manifest.json", "at": 1}, ()),
    "in the manifest": ({"kind": "write", "name": "step-00000004.tmp/manifest.json", "at": 1}, IN_BACKGROUND),
    "before the rename": ({"kind": "rename", "name": "checkpoints/step-00000004", "at": 1}, ()),
    "before checkpoint.json": ({"kind": "rename", "name": "checkpoint.json", "at": 3}, IN_BACKGROUND),
    "while an old one goes": ({"kind": "remove", "name": "step-00000000.gone.tmp", "at": 1}, IN_BACKGROUND),
}


@pytest.fixture(scope="module")
def assert_equal_shards(faulty_runs: ModuleType) -> Callable[[Path, Path], None]:
    """A run has ended as the whole one did, with folders in place of files."""

    def compare(run: Path, whole: Path) -> None:
        assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))
        kept = sorted(run.glob("checkpoints/step-*"))
        assert [load_checkpoint(path).step for path in kept] == faulty_runs.checkpoints(whole)
        assert not list(run.rglob("*.tmp"))

    return compare


@pytest.mark.parametrize("moment", MOMENTS_IN_SHARDS)
def test_a_run_killed_while_it_writes_shards_ends_equal_too(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    moment: str,
    assert_equal_shards: Callable[[Path, Path], None],
) -> None:
    """Equal to the run whose checkpoints are files."""
    run = tmp_path / "run"
    fault, how = MOMENTS_IN_SHARDS[moment]
    shards = [*arguments, *IN_SHARDS, *how, "--out", run]
    killed = faulty_apelr(*shards, watched=[run], fault={**fault, "do": "KILL"})
    assert killed["code"] == -9, killed["said"]
    if (run / "checkpoint.json").exists():
        load_checkpoint(run)
    resumed = faulty_apelr(*shards, watched=[run])
    assert resumed["code"] == 0, resumed["said"]
    assert_equal_shards(run, whole)


def test_a_run_goes_on_in_the_other_form_and_a_folder_is_used_as_a_file_is(
    arguments: list[str],
    whole: Path,
    apelr: Callable[..., Result],
    faulty_apelr: Faulty,
    tmp_path: Path,
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    run, one = tmp_path / "run", tmp_path / "one.pt"
    shards = [*arguments, *IN_SHARDS, "--out", run]
    stopped = faulty_apelr(*shards, watched=[run], fault={"name": "metrics.jsonl", "at": 9, "do": "SIGTERM"})
    assert stopped["code"] == 143
    assert f"go on with --resume auto --out {run} --config {run / 'config.yaml'}" in stopped["said"]
    folder = max(run.glob("checkpoints/step-*"))
    converted = apelr("convert", folder, one)
    assert converted.exit_code == 0, converted.stderr
    texts = [apelr("score", "--checkpoint", path, "--text", "The cat").stdout for path in (run, folder, one)]
    assert texts[0] == texts[1] == texts[2] != ""
    refused = apelr(*arguments[:-1], folder / "manifest.json", "--out", run)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    (folder / "shard-00001-of-00001.safetensors").write_bytes(b"")
    named = apelr(*arguments[:-1], folder, *IN_SHARDS, "--out", run)
    assert named.stderr == (
        f"Error: {folder}/shard-00001-of-00001.safetensors is damaged: its size or sha256 is not that of the manifest\n"
    )
    assert apelr(*arguments, "--out", run).exit_code == 0
    assert_equal_end(run, whole)


ERRORS = {
    "ENOSPC": "No space left on device",
    "EIO": "Input/output error",
    "EROFS": "Read-only file system",
}
PLACES = {
    "the config": {"kind": "write", "name": "config.yaml.tmp", "at": 1},
    "the folder of checkpoints": {"kind": "mkdir", "name": "checkpoints", "at": 1},
    "a checkpoint": {"kind": "write", "name": "step-00000004.pt.tmp", "at": 30},
    "a flush": {"kind": "flush", "name": "step-00000004.pt.tmp", "at": 1},
    "a name": {"kind": "rename", "name": "step-00000004.pt", "at": 1},
    "an old checkpoint": {"kind": "remove", "name": "step-00000000.pt", "at": 1},
    "the metrics": {"kind": "write", "name": "metrics.jsonl", "at": 5},
    "the last file": {"kind": "flush", "name": "metrics.json.tmp", "at": 1},
}
IN_A_FOLDER = {"a manifest": {"kind": "write", "name": "step-00000004.tmp/manifest.json", "at": 1}}


@pytest.mark.parametrize(
    ("place", "error", "how"),
    [
        *[(place, error, ()) for place, error in zip(PLACES, [*ERRORS] * 3, strict=False)],
        *[(place, "ENOSPC", IN_BACKGROUND) for place in ("a checkpoint", "a name")],
        ("a manifest", "ENOSPC", IN_SHARDS),
    ],
)
def test_a_disk_that_fails_is_one_line_and_harms_nothing(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    place: str,
    error: str,
    how: tuple[str, ...],
    checkpoints: Callable[[Path], list[int]],
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    run = tmp_path / "run"
    failed = faulty_apelr(
        *arguments, *how, "--out", run, watched=[run], fault={**(PLACES | IN_A_FOLDER)[place], "do": error}
    )
    assert failed["code"] == 1
    last = failed["said"].splitlines()[-1]
    assert last.startswith("Error: ")
    assert last.endswith(f": {ERRORS[error]}")
    assert str(run) in last
    assert "Traceback" not in failed["said"]
    assert not list(run.rglob("*.tmp"))
    if "checkpoint" in place or place in ("a flush", "a name", "the metrics"):
        checkpoints(run)
    assert faulty_apelr(*arguments, "--out", run, watched=[run])["code"] == 0
    assert_equal_end(run, whole)


@pytest.mark.parametrize(
    "moment",
    [
        {"kind": "open", "name": "metrics.jsonl", "at": 4},
        {"kind": "write", "name": "step-00000004.pt.tmp", "at": 5},
        {"kind": "flush", "name": "step-00000004.pt.tmp", "at": 1},
        {"kind": "open", "name": "planner_eval.json.tmp", "at": 1},
    ],
)
def test_a_run_whose_folder_is_removed_says_so_and_makes_no_other(
    arguments: list[str], faulty_apelr: Faulty, tmp_path: Path, moment: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    failed = faulty_apelr(*arguments, "--out", run, watched=[run], fault={**moment, "do": "REMOVE"})
    assert failed["code"] == 1
    last = failed["said"].splitlines()[-1]
    assert last.startswith("Error: ")
    assert str(run) in last
    assert "Traceback" not in failed["said"]
    assert not (run / "metrics.json").exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_newest_checkpoint_is_skipped_said_and_mended(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in ("checkpoint.pt", "checkpoints/step-00000008.pt"):
        truncate(run / name)
    dry = faulty_apelr(*arguments, "--out", run, "--dry-run", watched=[run])
    assert f"skipped: {run / 'checkpoint.pt'} is not a checkpoint or is damaged: " in dry["said"]
    assert "would go on from step 6" in dry["said"]
    resumed = faulty_apelr(
        *arguments, "--out", run, watched=[run], fault={"name": "metrics.jsonl", "at": 2, "do": "KILL"}
    )
    warning = f"warning: skipped a checkpoint: {run / 'checkpoint.pt'} is not a checkpoint or is damaged: "
    assert warning in resumed["said"]
    assert f"resuming {run} at step 6" in resumed["said"]
    assert load_checkpoint(run).step == 6
    again = faulty_apelr(*arguments, "--out", run, watched=[run])
    assert again["code"] == 0
    assert "skipped" not in again["said"]
    assert_equal_end(run, whole)


def test_a_run_that_goes_on_from_a_named_checkpoint_does_so_again_when_it_is_killed(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    """Not from a later one, of whose steps the metrics are gone by then."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = run / "checkpoints" / "step-00000006.pt"
    killed = faulty_apelr(
        *arguments[:-1], path, "--out", run, watched=[run], fault={"name": "metrics.jsonl", "at": 2, "do": "KILL"}
    )
    assert killed["code"] == -9, killed["said"]
    again = faulty_apelr(*arguments, "--out", run, watched=[run])
    assert f"resuming {run} at step 6" in again["said"]
    assert_equal_end(run, whole)


def test_a_damaged_checkpoint_that_is_named_is_an_error(
    arguments: list[str], whole: Path, faulty_apelr: Faulty, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = run / "checkpoints" / "step-00000008.pt"
    truncate(path)
    refused = faulty_apelr(*arguments[:-1], path, "--out", run, watched=[run])
    assert refused["code"] == 1
    assert refused["said"].startswith(f"Error: {path} is not a checkpoint or is damaged: ")
    assert refused["said"].count("\n") == 1


def test_a_folder_without_a_whole_checkpoint_is_an_error_that_names_all(
    arguments: list[str], whole: Path, faulty_apelr: Faulty, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    damaged = [run / "checkpoint.pt", *run.glob("checkpoints/*.pt")]
    for path in damaged:
        truncate(path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused = faulty_apelr(*arguments, "--out", run, watched=[run])
    assert refused["code"] == 1
    assert refused["said"].startswith(f"Error: {run} holds no complete checkpoint: ")
    assert all(str(path) in refused["said"] for path in damaged)
    assert refused["said"].count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.fixture
def broken_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The loss of these steps (0 is the first) is NaN."""
    step_loss = importlib.import_module("apelr_model.step_loss")
    original = step_loss.total_loss

    def arrange(*steps: int) -> None:
        def total(terms: Any, weights: Any, step: int) -> torch.Tensor:
            return original(terms._replace(nll=terms.nll * float("nan")) if step in steps else terms, weights, step)

        monkeypatch.setattr(step_loss, "total_loss", total)

    return arrange


def test_a_loss_that_is_no_number_stops_naming_all_that_matters(
    apelr: Callable[..., Result], arguments: list[str], tmp_path: Path, broken_steps: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    broken_steps(5)
    result = apelr(*arguments, "--out", run)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: loss term nll is nan at step 5; no parameter was changed; the learning rate was 0.000594; "
        f"the newest checkpoint is of step 4: {run / 'checkpoint.pt'}"
    )
    assert load_checkpoint(run).step == 4


def test_steps_that_may_be_skipped_are_counted_and_a_resumed_run_is_equal(
    faulty_runs: ModuleType,
    apelr: Callable[..., Result],
    arguments: list[str],
    tmp_path: Path,
    broken_steps: Callable[..., None],
    results: Callable[[Path], list[Any]],
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    skip = ["--set", "train.skip_non_finite=2"]
    broken_steps(1, 4, 5)
    result = apelr(*arguments, *skip, "--out", whole)
    assert result.exit_code == 0, result.stderr
    assert "step 5/8  skipped: loss term nll is nan at step 4; no parameter was changed; " in result.stderr
    assert "skipped 3 of 8 steps: a loss term or gradient was not finite" in result.stderr
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "skipped"] == [2, 5, 6]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 3, 4, 7, 8]
    assert json.loads((whole / "metrics.json").read_text(encoding="utf-8"))["skipped_steps"] == 3
    stopped = apelr(*arguments, "--set", "train.skip_non_finite=1", "--out", parts)
    assert stopped.exit_code == 1
    assert "at step 5; " in stopped.stderr
    assert "the 1 step(s) before it were skipped for the like; the newest checkpoint is of step 4" in stopped.stderr
    assert apelr(*arguments, *skip, "--out", parts).exit_code == 0
    assert faulty_runs.same(results(whole), results(parts))


@pytest.mark.parametrize("how", [(), IN_BACKGROUND])
def test_a_state_that_is_no_number_is_never_saved(
    apelr: Callable[..., Result],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: tuple[str, ...],
) -> None:
    from apelr_model import Trainer

    original = Trainer.train_step

    def train_step(self: Trainer, batch: Any) -> Any:
        report = original(self, batch)
        if report.step == 6:
            next(iter(self.optimizer.state.values()))["exp_avg_sq"].fill_(float("inf"))
        return report

    monkeypatch.setattr(Trainer, "train_step", train_step)
    run = tmp_path / "run"
    result = apelr(*arguments, *how, "--out", run)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    path = run / "checkpoints" / "step-00000006.pt"
    assert last.startswith(f"Error: {path} is not written: training.optimizer.state.0.exp_avg_sq holds NaN or plus ")
    assert last.endswith(f"; the newest checkpoint is of step 4: {run / 'checkpoint.pt'}")
    assert load_checkpoint(run).step == 4


@pytest.mark.parametrize(
    "moment",
    [
        {"kind": "write", "name": "step-00000004.pt.tmp", "at": 30},
        {"kind": "rename", "name": "checkpoint.pt", "at": 3},
        {"kind": "remove", "name": "step-00000000.pt", "at": 1},
        {"kind": "write", "name": "metrics.jsonl", "at": 6},
        {"kind": "rename", "name": "planner_eval.json", "at": 1},
        {"kind": "write", "name": "step-00000004.pt.tmp", "at": 31, "how": IN_BACKGROUND},
        {"kind": "write", "name": "step-00000008.pt.tmp", "at": 31, "how": IN_BACKGROUND},
    ],
)
def test_a_signal_while_it_writes_is_heard_when_that_is_done(
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    moment: dict[str, Any],
    assert_equal_end: Callable[[Path, Path], None],
) -> None:
    run = tmp_path / "run"
    how = moment.get("how", ())
    stopped = faulty_apelr(*arguments, *how, "--out", run, watched=[run], fault={**moment, "do": "SIGTERM"})
    assert stopped["code"] == 143
    assert not list(run.rglob("*.tmp"))
    load_checkpoint(run)
    assert faulty_apelr(*arguments, "--out", run, watched=[run])["code"] == 0
    assert_equal_end(run, whole)


@pytest.mark.parametrize(
    ("moment", "step"),
    [
        ({"kind": "write", "name": "metrics.jsonl", "at": 4}, 3),
        ({"kind": "write", "name": "step-00000004.pt.tmp", "at": 3}, 4),
        ({"kind": "write", "name": "config.yaml.tmp", "at": 1}, 0),
        ({"kind": "write", "name": "metrics.jsonl", "at": 4, "how": IN_BACKGROUND}, 3),
    ],
)
def test_asked_to_save_a_run_saves_and_goes_on(
    faulty_runs: ModuleType,
    arguments: list[str],
    whole: Path,
    faulty_apelr: Faulty,
    tmp_path: Path,
    moment: dict[str, Any],
    step: int,
    checkpoints: Callable[[Path], list[int]],
    results: Callable[[Path], list[Any]],
) -> None:
    run = tmp_path / "run"
    fault = {**moment, "do": "SIGUSR1"}
    how = [*moment.get("how", ()), "--set", "train.keep_checkpoints=null"]
    asked = faulty_apelr(*arguments, *how, "--out", run, watched=[run], fault=fault)
    assert asked["code"] == 0
    assert f"step {step}/8  saved, as asked" in asked["said"]
    assert step in checkpoints(run)
    assert faulty_runs.same(results(run), results(whole))


def test_of_two_runs_in_one_folder_the_second_is_refused(
    apelr: Callable[..., Result], start_apelr: Callable[..., Any], arguments: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    unread = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # a pipe would fill, and then the run wait
    with start_apelr(*arguments, "--out", run, "--set", "train.max_steps=1000000", **unread) as first:
        while not (run / "metrics.jsonl").exists():
            assert first.poll() is None
            time.sleep(0.05)
        for how in (["--resume", "auto"], ["--force"]):
            second = apelr(*arguments[:3], *how, "--set", "train.max_steps=1000000", "--out", run)
            assert second.exit_code == 1
            assert second.stderr == (
                f"Error: another process trains in {run}: wait for it or stop it, or give another folder with --out\n"
            )
        assert apelr(*arguments[:3], "--out", run).stderr.startswith(f"Error: {run} is not empty")
        first.terminate()
        assert first.wait(900) == 143
    assert load_checkpoint(run).step > 0
