"""Files that the prototype itself wrote, against what it computed; they are not part of the repository.

The environment variable APELR_PROTOTYPE_FILES names a folder of folders, each with `checkpoint.pt` and
`expected.json`: `input_ids`, `target_ids`, `log_prob` (V1) or a list of log-probabilities for each of the `settings`
(V2), and loss terms under `aux`.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apelr_model import (
    PlannerLM,
    TokenBatch,
    evaluate,
    load_checkpoint,
    planner_diagnostics,
    score,
)

ROOT = os.environ.get("APELR_PROTOTYPE_FILES")
CASES = sorted(path.parent for path in Path(ROOT).glob("*/expected.json")) if ROOT else []
TOLERANCE = 1e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_feedback": {"feedback_scale": 0.0},
    "no_token_filtering": {"token_filtering": False},
    "uniform_mask": {"mode": "uniform"},
    "forced_state_0": {"force_state": 0},
    "temperature_0.5": {"temperature": 0.5},
    "horizon_4_scale_0.6": {"lookahead_horizon": 4, "feedback_scale": 0.6},
}
OTHER_NAMES = {"chunk_bow_loss": "chunk_bow", "mean_nll": "nll"}
"""What the prototype called a figure -> what it is called here, where that differs."""

pytestmark = pytest.mark.skipif(ROOT is None, reason="APELR_PROTOTYPE_FILES names no folder of the prototype's files")


def test_the_folder_holds_files() -> None:
    assert CASES


def load(folder: Path) -> tuple[PlannerLM, dict[str, Any]]:
    model = load_checkpoint(folder / "checkpoint.pt").build_model().eval()
    return model, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def ids_of(expected: dict[str, Any]) -> list[int]:
    ids = [*expected["input_ids"], expected["target_ids"][-1]]
    assert ids[1:] == expected["target_ids"]
    return ids


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_log_probabilities(folder: Path) -> None:
    model, expected = load(folder)
    lists = expected.get("settings") or {"default": expected["log_prob"]}
    for name, wanted in lists.items():
        policy = replace(model.policy, **SETTINGS[name])
        found = score(model, ids_of(expected), policy=policy).log_prob.tolist()
        deviation = max(abs(ours - theirs) for ours, theirs in zip(found, wanted, strict=True))
        assert deviation < TOLERANCE, name


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_loss_terms_and_diagnostics(folder: Path) -> None:
    model, expected = load(folder)
    ids = torch.tensor([ids_of(expected)])
    batch = TokenBatch(ids[:, :-1], ids[:, 1:], torch.tensor([ids.shape[1] - 1]))
    figures = {**planner_diagnostics(model, [batch])._asdict(), **evaluate(model, [batch])._asdict()}
    wanted = {**expected["aux"], **expected.get("diagnostics", {}), "mean_nll": expected["mean_nll"]}
    named = {name: figures.get(OTHER_NAMES.get(name, name)) for name in wanted}
    compared = {name: abs(found - wanted[name]) for name, found in named.items() if found is not None}
    assert "mean_nll" in compared
    assert {name: each for name, each in compared.items() if not each < TOLERANCE} == {}
