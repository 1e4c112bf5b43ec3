"""`apelr train` with rows that go on with the belief of the row before, and `apelr eval` after it."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result

from apelr_model import PlanSplit, load_checkpoint

Train = Callable[..., Result]

CONFIG: dict[str, Any] = {
    "seed": 3,
    "device": "cpu",
    "model": {"num_plan_states": 3, "chunk_size": 4, "token_dim": 8, "hidden_dim": 12, "dropout": 0.2},
    "tokenizer": {"type": "char", "min_frequency": 1},
    "data": {"source": "text", "val_fraction": 0.2, "order": "contiguous", "lane_rows": 3},
    "train": {
        "seq_len": 12,
        "batch_size": 4,
        "grad_accum_steps": 2,
        "max_steps": 8,
        "warmup_steps": 2,
        "lr": 0.01,
        "planner_lr_scale": 0.5,
        "split_interval": 2,
        "log_interval": 1,
        "eval_interval": 3,
        "save_interval": 3,
        "val_batches": None,
        "carry_belief": True,
        "loss_weights": {"usage_balance": 0.1, "boundary_entropy": 0.01},
    },
}
"""Everything on that could break an exact resume; lanes read three rows in a row and then begin anew."""


@pytest.fixture
def train(apelr: Train, tmp_path: Path) -> Train:
    """Runs `apelr train` on the config; other arguments may follow."""
    text, file = tmp_path / "text.txt", tmp_path / "run.yaml"
    lines = (f"{n}. The cat sat on the mat. A dog ran to the sea! Who saw it? The cat did.\n" for n in range(40))
    text.write_text("".join(lines), encoding="utf-8")
    content = {**CONFIG, "data": {**CONFIG["data"], "path": str(text)}}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return lambda *arguments: apelr("train", "--config", file, *arguments)


def leaves(value: Any) -> Iterator[Any]:
    """Every tensor and plain value of a nested state, in order."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


def same(left: Any, right: Any) -> bool:
    """Equal bit for bit."""
    pairs = list(zip(leaves(left), leaves(right), strict=True))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def losses(run: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


def final(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["validation"]
    return found


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stopped_and_resumed_run_equals_the_whole_one(
    train: Train, tmp_path: Path, signal_at_step: Callable[..., None], step: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("--out", whole).exit_code == 0
    signal_at_step(step, signal.SIGTERM)
    assert train("--out", parts).exit_code == 143
    stopped = load_checkpoint(parts)
    assert stopped.step == step
    assert stopped.training is not None
    assert stopped.training["carried"]["position"].tolist() == [(step - 1) % 3 * 12 + 12] * 4
    resumed = train("--out", parts, "--resume", "auto")
    assert resumed.exit_code == 0, resumed.output
    left, right = load_checkpoint(whole), load_checkpoint(parts)
    assert left.step == right.step == 8
    assert same(left.model, right.model)
    assert same(left.training, right.training)
    assert losses(whole) == losses(parts)
    assert [number for number, _ in losses(parts)] == list(range(1, 9))
    assert final(whole) == final(parts)


def test_splits_are_told_and_kept(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One made at step 4, as the look of that step would."""
    made = PlanSplit(state=1, worth=0.25, heir=2, copy_of=0)
    after = "apelr_model.plan_splits.PlanSplits.after"
    monkeypatch.setattr(after, lambda self, step, *others: (made,) if step == 4 else ())
    run = tmp_path / "run"
    result = train("--out", run)
    assert result.exit_code == 0
    assert "step 4/8  plan state 1 was worth 2.5e-01 nats/token, now a copy of state 0" in result.output
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    expected = {"kind": "split", "step": 4, "state": 1, "worth": 0.25, "heir": 2, "copy_of": 0}
    assert [line for line in lines if line["kind"] == "split"] == [expected]


def test_the_belief_that_is_carried_changes_the_losses(train: Train, tmp_path: Path) -> None:
    assert train("--out", tmp_path / "carried").exit_code == 0
    assert train("--out", tmp_path / "afresh", "--set", "train.carry_belief=false").exit_code == 0
    pairs = zip(losses(tmp_path / "carried"), losses(tmp_path / "afresh"), strict=True)
    alike = [one == other for one, other in pairs]
    assert alike[0], "no row of the first step goes on"
    assert not any(alike[1:]), "and those of the second do"


@pytest.mark.parametrize("carried", [True, False])
def test_eval_on_a_finished_run_gives_its_figures(train: Train, apelr: Train, tmp_path: Path, carried: bool) -> None:
    """The very same numbers, whatever training carried."""
    run = tmp_path / "run"
    assert train("--out", run, "--set", f"train.carry_belief={carried}").exit_code == 0
    arguments = ("eval", "--checkpoint", run, "--format", "json", "--device", "cpu")
    found, plain, one_by_one = (
        json.loads(apelr(*arguments, *extra).stdout) for extra in ((), ("--no-diagnostics",), ("--batch-size", 1))
    )
    assert found["rows"] > 32
    assert found["nll"] == final(run)["nll"]
    assert found["bits_per_byte"] == final(run)["bits_per_byte"]
    assert found["targets"] == final(run)["targets"]
    assert plain["nll"] == pytest.approx(found["nll"], abs=1e-12)
    assert one_by_one["nll"] == pytest.approx(found["nll"], abs=1e-6)
    report = json.loads((run / "planner_eval.json").read_text(encoding="utf-8"))
    assert {key: found[key] for key in report if key != "step"} == {
        key: value for key, value in report.items() if key != "step"
    }
