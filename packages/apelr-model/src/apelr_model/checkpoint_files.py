"""The checkpoint files of a run folder: their names, and which of them stay when a new one is complete."""

import re
from collections.abc import Mapping
from pathlib import Path

from apelr_model.archive import flush_folder

__all__ = ["LATEST_NAME", "remove_old_checkpoints", "saved_checkpoints", "step_path"]

FOLDER_NAME = "checkpoints"
LATEST_NAME = "checkpoint.pt"
STEP_NAME = re.compile(r"step-(\d{8,})\.pt")
FEWEST_KEPT = 2
"""One that is complete, whatever becomes of the other."""


def step_path(run_dir: Path, step: int) -> Path:
    """The file of the checkpoint of a step."""
    return run_dir / FOLDER_NAME / f"step-{step:08d}.pt"


def saved_checkpoints(run_dir: Path) -> dict[int, Path]:
    """The checkpoint files that there are, by step, in the order of their steps; whether they are whole is not asked.

    Raises OSError where the folder cannot be read.
    """
    folder = run_dir / FOLDER_NAME
    found = [(STEP_NAME.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def remove_old_checkpoints(run_dir: Path, step: int, keep: int, validation_nll: Mapping[int, float]) -> None:
    """Remove all checkpoints before `step`, which has just been saved, but the newest and the best; the oldest first.

    `keep` of them stay, that of `step` counted in; and, of all that have a validation NLL (by step), the one with the
    lowest. Those of later steps are no affair of this run's. Raises OSError; ValueError where `keep` is below 2.
    """
    if keep < FEWEST_KEPT:
        raise ValueError(f"at least {FEWEST_KEPT} checkpoints must be kept, got {keep}")
    earlier = {number: path for number, path in saved_checkpoints(run_dir).items() if number <= step}
    rated = [number for number in earlier if number in validation_nll]
    best = min(rated, key=lambda number: (validation_nll[number], number), default=step)
    old = [path for number, path in list(earlier.items())[:-keep] if number != best and not path.is_dir()]
    for path in old:
        path.unlink(missing_ok=True)
    if old:
        flush_folder(run_dir / FOLDER_NAME)
