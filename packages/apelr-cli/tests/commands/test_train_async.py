"""`train.async_save`: what is trained while a checkpoint is written does not change it, and saves take turns."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result

from apelr_cli import run_checkpoints
from apelr_model import Trainer, load_checkpoint

CONFIG = """
device: cpu
model: {version: v2_planner_required, num_plan_states: 2, chunk_size: 4, token_dim: 4, hidden_dim: 6, dropout: 0.1}
tokenizer: {type: char, min_frequency: 1}
data: {source: storyworld, max_train_chars: 4000, max_val_chars: 500}
train: {max_steps: 8, save_interval: 4, seq_len: 8, batch_size: 4, lr: 0.1, log_interval: 8, eval_interval: 8,
  val_batches: 1, split_interval: 2}
"""


def test_a_checkpoint_is_of_its_step_whatever_is_trained_meanwhile(
    apelr: Callable[..., Result],
    write_config: Callable[[str], Path],
    faulty_runs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of step 4 is written after step 7 was made; that of step 8 waits for it."""
    arguments = ("train", "--config", write_config(CONFIG))
    assert apelr(*arguments, "--out", tmp_path / "whole").exit_code == 0
    train_step, save = Trainer.train_step, run_checkpoints.save_checkpoint
    trained, order = threading.Event(), list[str]()

    def step(self: Trainer, batch: Any) -> Any:
        report = train_step(self, batch)
        order.append(f"trained {report.step}")
        if report.step == 7:
            trained.set()
        return report

    def late(run: Path, checkpoint: Any, **rest: Any) -> Path:
        assert checkpoint.step != 4 or trained.wait(60)
        path = save(run, checkpoint, **rest)
        order.append(f"saved {checkpoint.step}")
        return path

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(run_checkpoints, "save_checkpoint", late)
    result = apelr(*arguments, "--set", "train.async_save=true", "--out", tmp_path / "background")
    assert result.exit_code == 0, result.stderr
    saved = [name for name in order if name.startswith("saved")]
    assert saved == ["saved 0", "saved 4", "saved 8"]
    assert order.index("saved 0") < order.index("trained 1"), "a complete checkpoint exists before the first step"
    assert order.index("saved 4") > order.index("trained 7")
    for name in ("step-00000004.pt", "step-00000008.pt"):
        left, right = (load_checkpoint(tmp_path / run / "checkpoints" / name) for run in ("whole", "background"))
        assert faulty_runs.same([left.model, left.training], [right.model, right.training])
    for run in ("whole", "background"):
        metrics = json.loads((tmp_path / run / "metrics.json").read_text(encoding="utf-8"))
        assert 0 < metrics["waiting_for_saves"] < 1
    assert "waited for saves " in result.stderr
