"""Sinks hold what metrics.jsonl holds, each step once; the event files are read back without TensorBoard."""

import importlib.util
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from apelr_cli import metric_sinks
from apelr_cli.metric_sinks import EXTRAS, SINKS, RunMetrics, check_sinks, scalars
from apelr_cli.run_folder import RunError, RunFolder
from apelr_cli.tensorboard_sink import FOLDER


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def events(run: Path) -> Iterator[Event]:
    """Every event of a run's files, their checksums checked: the format of TFRecord."""
    for path in sorted((run / FOLDER).iterdir()):
        content = path.read_bytes()
        while content:
            (length, of_length) = struct.unpack("<QI", content[:12])
            data = content[12 : 12 + length]
            assert masked(content[:8]) == of_length
            assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked(data),)
            yield Event.FromString(data)
            content = content[16 + length :]


def points(run: Path) -> list[tuple[int, str, float | str]]:
    """Step, tag and value of all that the event files say."""
    found: list[tuple[int, str, float | str]] = []
    for event in events(run):
        for value in event.summary.value:
            text = value.tensor.string_val
            shown = text[0].decode() if text else value.simple_value
            found.append((event.step, value.tag.removesuffix("/text_summary"), shown))
    return found


def expected(run: Path) -> list[tuple[int, str, float | str]]:
    """The same by metrics.jsonl."""
    found: list[tuple[int, str, float | str]] = []
    for line in map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        kind, step = line["kind"], line["step"]
        found += [(step, f"{kind}/{name}", value) for name, value in scalars(line).items()]
        found += [(step, f"{kind}/{k}", v) for k, v in line.items() if isinstance(v, str) and k != "kind"]
    return found


def assert_same(run: Path) -> None:
    """The event files say all that metrics.jsonl says, and nothing twice; float32 where that has more digits."""
    ours, theirs = (sorted(each, key=lambda point: point[:2]) for each in (points(run), expected(run)))
    assert [point[:2] for point in ours] == [point[:2] for point in theirs]
    for (*_, value), (*_, wanted) in zip(ours, theirs, strict=True):
        assert value == (wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=1e-6))


def test_numbers_are_named_by_where_they_stand() -> None:
    line = {"kind": "train", "step": 3, "loss": 2, "usage": [0.5, None], "of": {"nll": 1.5}, "text": "a", "is": True}
    assert scalars(line) == {"loss": 2.0, "usage/0": 0.5, "of/nll": 1.5}


def test_event_files_hold_what_metrics_jsonl_holds(tmp_path: Path) -> None:
    metrics = RunMetrics(RunFolder(tmp_path), ["tensorboard"])
    metrics.open()
    metrics.write({"kind": "train", "step": 1, "loss": 2.5, "usage": (0.25, 0.75), "grad_norm": math.inf})
    metrics.write({"kind": "preview", "step": 1, "text": "é <b>"})
    assert points(tmp_path) == [
        (1, "train/loss", 2.5),
        (1, "train/usage/0", 0.25),
        (1, "train/usage/1", 0.75),
        (1, "preview/text", "é <b>"),
    ], "each line is in the file at once, numbers that are not finite left out as in metrics.jsonl"
    metrics.close()
    assert_same(tmp_path)


def test_a_sink_that_is_opened_again_holds_each_step_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for _ in range(2):
        metrics = RunMetrics(folder, ["tensorboard"])
        metrics.open()
        for step in (1, 2, 3):
            metrics.write({"kind": "train", "step": step, "loss": float(step)})
        metrics.close()
        folder.forget_metrics_after(0)
    metrics = RunMetrics(folder, ["tensorboard"])
    folder.append_metrics({"kind": "train", "step": 1, "loss": 1.0})
    metrics.open()
    metrics.write({"kind": "train", "step": 2, "loss": 9.0})
    metrics.close()
    assert points(tmp_path) == [(1, "train/loss", 1.0), (2, "train/loss", 9.0)]


def test_a_process_that_does_not_write_opens_nothing(tmp_path: Path) -> None:
    metrics = RunMetrics(RunFolder(tmp_path, writes=False), ["tensorboard"])
    metrics.open()
    metrics.write({"kind": "train", "step": 1, "loss": 1.0})
    metrics.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file", encoding="utf-8")
    with pytest.raises(OSError, match=FOLDER):
        RunMetrics(RunFolder(tmp_path), ["tensorboard"]).open()


def test_a_missing_library_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_sinks(SINKS)
    monkeypatch.setattr(metric_sinks, "find_spec", lambda name: None)
    with pytest.raises(RunError) as error:
        check_sinks(["tensorboard"])
    assert str(error.value) == (
        'train.sinks: tensorboard needs tensorboardX: python -m pip install "apelr-cli[tensorboard]", or leave it out'
    )
    check_sinks([])


def test_each_extra_names_a_sink_and_a_module_that_is_there() -> None:
    assert EXTRAS.keys() <= SINKS.keys()
    assert all(importlib.util.find_spec(module) for module in EXTRAS.values())


class Listing:
    """A second sink, as a user would write it."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[object] = []

    def write(self, line: object) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.lines.append("closed")


def test_a_second_sink_is_a_class_and_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Listing] = []
    table = {**SINKS, "listing": lambda folder: made.append(Listing(folder)) or made[0]}
    monkeypatch.setattr(metric_sinks, "SINKS", table)
    folder = RunFolder(tmp_path)
    folder.append_metrics({"kind": "train", "step": 1})
    metrics = RunMetrics(folder, ["listing"])
    metrics.open()
    metrics.write({"kind": "train", "step": 2, "loss": math.nan})
    metrics.close()
    assert made[0].lines == [{"kind": "train", "step": 1}, {"kind": "train", "step": 2, "loss": None}, "closed"]


TINY = """
model: {num_plan_states: 2, chunk_size: 4, token_dim: 4, hidden_dim: 8}
tokenizer: {type: char, min_frequency: 1}
data: {source: storyworld, max_train_examples: 20, max_val_examples: 2}
train: {seq_len: 16, batch_size: 2, max_steps: 4, warmup_steps: 0, log_interval: 1, eval_interval: 2, val_batches: 1,
        save_interval: 2, preview_interval: 2, preview_tokens: 4}
"""


def test_a_run_that_is_taken_up_writes_no_step_twice_and_misses_none(
    apelr: Callable[..., Result], write_config: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    asked = ("train", "--config", write_config(TINY), "--out", run, "--quiet")
    on = ("--set", "train.sinks=[tensorboard]")
    assert apelr(*asked, *on).exit_code == 0
    assert_same(run)
    assert {"train/loss", "validation/nll", "final/nll", "preview/text"} <= {tag for _, tag, _ in points(run)}
    again = (*asked, "--resume", run / "checkpoints" / "step-00000002.pt")
    assert apelr(*again, *on).exit_code == 0
    assert_same(run)
    assert [step for step, tag, _ in points(run) if tag == "train/loss"] == [1, 2, 3, 4]

    monkeypatch.setattr(metric_sinks, "find_spec", lambda name: None)
    before = sorted(run.rglob("*"))
    refused = apelr(*again, *on)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: train.sinks: tensorboard needs tensorboardX: python -m pip install")
    assert refused.stderr.count("\n") == 1
    assert sorted(run.rglob("*")) == before
    assert apelr(*asked, "--force").exit_code == 0
    assert not (run / FOLDER).exists()


def test_a_sink_that_is_not_known_or_named_twice_is_refused(
    apelr: Callable[..., Result], write_config: Callable[[str], Path]
) -> None:
    for value, rule in (("[wandb]", "a list, each tensorboard"), ("[tensorboard, tensorboard]", "without repetition")):
        result = apelr("train", "--config", write_config(TINY), "--set", f"train.sinks={value}", "--print-config")
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: train.sinks must be {rule}, got [")
