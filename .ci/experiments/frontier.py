"""Real text: what the executor sees against what the plan is worth, by window and number of plan states."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations import BASE
from evaluations import evaluation
from running import PLAIN, Run, cell, markdown, read

SEEDS = 1
WINDOWS = ("4", "8", "32", "null")
"""Tokens that a layer of the executor attends to; null: everything in the row."""
STATES = (8, 64)
MEASURES = ("plan_mi", "boundary_reset_delta_loss", "shuffled_belief_delta_loss")


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """All at once."""
    yield [run for window in WINDOWS for seed in seeds for run in _row(window, seed)]


def _row(window: str, seed: int) -> list[Run]:
    """No plan, then one run for each number of plan states."""
    seen = f"model.executor.window={window}"
    plans = ((states, (*BASE, seen, f"model.num_plan_states={states}")) for states in STATES)
    return [
        Run(f"window-{window}-no-plan", "transformer_lm_python_docs", (seen,), seed),
        *(Run(f"window-{window}-{states}-states", "python_docs", changes, seed, PLAIN) for states, changes in plans),
    ]


def table(seeds: Sequence[int], out: Path) -> str:
    """NLL with and without a plan, and what the plan's deltas are, for each window."""
    rows = []
    for window in WINDOWS:
        for number, states in enumerate(("no plan", *map(str, STATES))):
            folders = [_row(window, seed)[number].folder(out) for seed in seeds]
            nll = [read(folder, "metrics.json")["validation"]["nll"] for folder in folders]
            found = [evaluation(folder) for folder in folders] if number else []
            cells = [cell((each[key] for each in found), ".3f") for key in MEASURES]
            rows.append([window.replace("null", "everything"), states, cell(nll, ".4f"), *cells])
    return markdown(["window", "K", "nats/token", "plan MI", "boundary reset", "shuffled belief"], rows)
