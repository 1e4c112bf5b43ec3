"""The newest checkpoint of a run folder that is complete, and what was found damaged on the way to it."""

from pathlib import Path
from typing import NamedTuple

from apelr_model.checkpoint import Checkpoint, load_checkpoint
from apelr_model.checkpoint_files import LATEST_NAME, saved_checkpoints
from apelr_model.errors import CheckpointError

__all__ = ["FoundCheckpoint", "load_newest_checkpoint"]


class FoundCheckpoint(NamedTuple):
    """A checkpoint and where it was."""

    checkpoint: Checkpoint
    path: Path
    skipped: tuple[str, ...] = ()
    """Of each newer file, why it could not be read; a line each."""


def load_newest_checkpoint(run_dir: Path) -> FoundCheckpoint | None:
    """The checkpoint that was saved last, `checkpoint.pt`; where it is missing or damaged, the next one that is whole.

    None where there is no checkpoint at all. Raises CheckpointError, with the reason for every file, where none is
    whole.
    """
    latest = run_dir / LATEST_NAME
    steps = list(saved_checkpoints(run_dir).values())[::-1]
    if not steps and not (latest.exists() or latest.is_symlink()):
        return None
    skipped: list[str] = []
    for path in (latest, *steps):
        if path != latest and _same_file(path, latest):
            continue  # it has been looked at under its other name
        try:
            return FoundCheckpoint(load_checkpoint(_file(path)), path, tuple(skipped))
        except CheckpointError as error:
            skipped.append(str(error))
    raise CheckpointError(f"{run_dir} holds no complete checkpoint: {'; '.join(skipped)}")


def _file(path: Path) -> Path:
    """The path, which must not be a folder: that of a run would be searched for its own newest checkpoint."""
    if path.is_dir():
        raise CheckpointError(f"{path} is not a regular file")
    return path


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
