"""`apelr train` stopped in each phase and at an epoch's edge, on a disk that really fills, and with its text lost."""

import importlib
import importlib.util
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import Result

from apelr_model import Trainer, load_checkpoint

Apelr = Callable[..., Result]
STEPS = 6


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations of several batches and previews at steps at which nothing is saved; a token cache."""
    folder = tmp_path_factory.mktemp("config")
    text = folder / "text.txt"
    text.write_text("".join(f"{n}. The cat sat on the mat. Who saw it?\n" for n in range(60)), encoding="utf-8")
    sizes = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 4, "hidden_dim": 6, "fusion_dim": 4, "dropout": 0.2}
    intervals = {"log_interval": 1, "eval_interval": 3, "preview_interval": 3, "save_interval": 4}
    content = {
        "device": "cpu",
        "model": {"version": "v1_filtered_mixture", **sizes},
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {
            **{"source": "text", "path": str(text), "val_fraction": 0.2},
            **{"token_cache": True, "token_cache_dir": str(folder / "cache")},
        },
        "train": {
            **{"seq_len": 8, "batch_size": 2, "lr": 0.01, "max_steps": STEPS, "val_batches": 4, "preview_tokens": 6},
            **intervals,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def train(apelr: Apelr, config_file: Path) -> Callable[..., Result]:
    """apelr train with the config, taken up where there is a run."""
    return lambda run, *more: apelr("train", "--config", config_file, "--resume", "auto", "--out", run, *more)


@pytest.fixture(scope="module")
def whole(config_file: Path, faulty_apelr: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nothing happened to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert faulty_apelr("train", "--config", config_file, "--out", run, watched=[])["code"] == 0
    return run


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def send_in_step(patch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """The signal comes while a step computes (1 is the first)."""
    original = Trainer.train_step

    def train_step(self: Trainer, batch: Any) -> Any:
        if self.step + 1 == step:
            os.kill(os.getpid(), number)
        return original(self, batch)

    patch.setattr(Trainer, "train_step", train_step)


def send_in_items(
    patch: pytest.MonkeyPatch, module_name: str, name: str, argument: str | int, count: int, number: int
) -> None:
    """The signal comes in the `count`-th call of a function, after the first of the items that it is given or gives."""
    module = importlib.import_module(f"apelr_cli.{module_name}")
    original = getattr(module, name)
    calls = 0

    def signalling(items: Iterable[Any]) -> Iterator[Any]:
        for place, item in enumerate(items):
            assert place < 2 or number == signal.SIGUSR1, "it goes on after the signal"
            yield item
            if place == 0:
                os.kill(os.getpid(), number)

    def call(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != count:
            return original(*given, **more)
        if argument == "result":
            return signalling(original(*given, **more))
        return original(given[0], signalling(given[1]), *given[2:], **more)

    patch.setattr(module, name, call)


PHASES: dict[str, tuple[Callable[..., None], tuple[Any, ...], int]] = {
    "the first step": (send_in_step, (1,), 1),
    "a step": (send_in_step, (5,), 5),
    "an evaluation": (send_in_items, ("training_run", "evaluate", "batches", 1), 3),
    "a preview": (send_in_items, ("preview", "generate", "result", 1), 3),
    "the last preview": (send_in_items, ("preview", "generate", "result", 2), 6),
    "the last evaluation": (send_in_items, ("training_run", "evaluate", "batches", 2), 6),
}
"""How a signal is sent in each, and the step of the checkpoint that is there then. Saves: test_train_faults.py."""


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_is_answered_with_a_checkpoint_of_that_step_and_the_end_is_equal(
    faulty_runs: ModuleType, train: Callable[..., Result], whole: Path, tmp_path: Path, phase: str
) -> None:
    run = tmp_path / "run"
    send, arguments, step = PHASES[phase]
    with pytest.MonkeyPatch.context() as patch:
        send(patch, *arguments, signal.SIGTERM)
        stopped = train(run)
    assert stopped.exit_code == 143, stopped.output
    assert load_checkpoint(run).step == step
    assert lines(run)[-1]["step"] == step
    assert not (run / "metrics.json").exists()
    resumed = train(run)
    assert resumed.exit_code == 0, resumed.output
    assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))


@pytest.mark.parametrize("rows", [239, 80])
def test_a_run_that_is_stopped_at_the_edge_of_an_epoch_or_after_it_ends_equal(
    faulty_runs: ModuleType, train: Callable[..., Result], tmp_path: Path, rows: int
) -> None:
    """An epoch has 239 rows: as many as a step, or less than three steps, of which the third begins the next one."""
    size = ("--set", f"train.batch_size={rows}")
    undisturbed = train(tmp_path / "whole", *size)
    assert " training tokens in 239 rows, " in undisturbed.stderr
    with pytest.MonkeyPatch.context() as patch:
        send_in_step(patch, 3, signal.SIGTERM)
        assert train(tmp_path / "parts", *size).exit_code == 143
    assert train(tmp_path / "parts", *size).exit_code == 0
    assert faulty_runs.same(*(faulty_runs.results(tmp_path / name) for name in ("whole", "parts")))


@pytest.mark.parametrize("phase", ["an evaluation", "a preview"])
def test_asked_to_save_in_an_evaluation_or_preview_a_run_saves_and_goes_on(
    faulty_runs: ModuleType, train: Callable[..., Result], whole: Path, tmp_path: Path, phase: str
) -> None:
    run = tmp_path / "run"
    send, arguments, step = PHASES[phase]
    with pytest.MonkeyPatch.context() as patch:
        send(patch, *arguments, signal.SIGUSR1)
        asked = train(run)
    assert asked.exit_code == 0, asked.output
    assert f"step {step}/{STEPS}  saved, as asked" in asked.stderr
    assert step in faulty_runs.checkpoints(run)
    assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))


@pytest.mark.parametrize("place", ["the small files", "the first checkpoint", "a later checkpoint"])
def test_a_disk_that_really_fills_is_one_line_and_harms_nothing(
    faulty_runs: ModuleType,
    small_disk: Any,
    faulty_apelr: Callable[..., Any],
    config_file: Path,
    whole: Path,
    tmp_path: Path,
    place: str,
) -> None:
    """As much room as half of a place needs beside what comes before it."""
    first, later = (
        (whole / "checkpoints" / f"step-{step:08d}.pt").stat().st_size // small_disk.PAGE for step in (0, 4)
    )
    room = {"the small files": 2, "the first checkpoint": 4 + first // 2, "a later checkpoint": 6 + first + later // 2}
    run = small_disk.folder / "run"
    arguments = ("train", "--config", config_file, "--resume", "auto", "--out", run)
    small_disk.leave(room[place])
    failed = faulty_apelr(*arguments, watched=[])
    assert failed["code"] == 1, failed["said"]
    errors = [line for line in failed["said"].splitlines() if line.startswith("Error: ")]
    assert errors == failed["said"].splitlines()[-1:]
    assert str(run) in errors[0]
    assert errors[0].endswith(": No space left on device")
    assert not list(run.rglob("*.tmp"))
    steps = faulty_runs.checkpoints(run)
    assert steps == ([0] if place == "a later checkpoint" else [])
    small_disk.make_room()
    assert faulty_apelr(*arguments, watched=[])["code"] == 0
    assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))


LOSSES: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "removed": Path.unlink,
    "another in its place": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize(("loss", "workers"), list(zip(LOSSES, [0, 1, 0], strict=True)))
def test_a_token_cache_that_is_lost_while_a_run_reads_it_is_one_line_and_harms_nothing(
    faulty_runs: ModuleType, train: Callable[..., Result], whole: Path, tmp_path: Path, loss: str, workers: int
) -> None:
    """In many files, of which one is open at a time, as those of a large text are not all open."""
    run, cache = tmp_path / "run", tmp_path / "cache"
    settings = (f"data.token_cache_dir={cache}", f"train.num_workers={workers}", "data.reuse_token_cache=false")
    more = [part for setting in settings for part in ("--set", setting)]
    original = Trainer.train_step

    def train_step(self: Trainer, batch: Any) -> Any:
        report = original(self, batch)
        if report.step == 1:
            for path in cache.glob("*/train-*.bin"):
                LOSSES[loss](path)
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apelr_data.token_file.SHARD_BYTES", 64)
        patch.setattr("apelr_data.token_file.MOST_MAPPED", 1)
        patch.setattr(Trainer, "train_step", train_step)
        lost = train(run, *more)
    assert lost.exit_code == 1, lost.output
    assert isinstance(lost.exception, SystemExit), "and no traceback"
    errors = [line for line in lost.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == lost.stderr.splitlines()[-1:]
    assert errors[0].startswith(f"Error: token cache: {cache}")
    assert faulty_runs.checkpoints(run)[0] == 0
    assert train(run, *more[:4]).exit_code == 1, "it is not read again unless it is written anew"
    assert train(run, *more).exit_code == 0
    assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))


def test_a_text_that_is_removed_while_a_run_trains_is_no_longer_needed(
    faulty_runs: ModuleType, train: Callable[..., Result], config_file: Path, whole: Path, tmp_path: Path
) -> None:
    run, text = tmp_path / "run", config_file.with_name("text.txt")
    kept = text.stat(), text.read_bytes()
    begin = importlib.import_module("apelr_cli.training_run").TrainingRun.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apelr_cli.training_run.TrainingRun.begin", lambda self: (begin(self), text.unlink()))
        done = train(run)
    text.write_bytes(kept[1])
    os.utime(text, ns=(kept[0].st_atime_ns, kept[0].st_mtime_ns))
    assert done.exit_code == 0, done.output
    assert faulty_runs.same(faulty_runs.results(run), faulty_runs.results(whole))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Any]:
    """See small_disk.py in the folder above; skips where none can be mounted."""
    spec = importlib.util.spec_from_file_location("small_disk", Path(__file__).parents[1] / "small_disk.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    disk = module.SmallDisk(tmp_path / "disk")
    try:
        disk.__enter__()
    except OSError as error:
        pytest.skip(str(error))
    yield disk
    disk.__exit__()
