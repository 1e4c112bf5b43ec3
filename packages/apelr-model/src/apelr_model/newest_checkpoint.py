"""The newest checkpoint of a run folder that is complete, and what was found damaged on the way to it."""

from pathlib import Path
from typing import NamedTuple

from apelr_model.checkpoint import Checkpoint, load_checkpoint
from apelr_model.checkpoint_files import POINTER_NAME, newest_name, pointed_folder, saved_checkpoints
from apelr_model.errors import CheckpointError

__all__ = ["FoundCheckpoint", "load_newest_checkpoint"]


class FoundCheckpoint(NamedTuple):
    """A checkpoint and where it was."""

    checkpoint: Checkpoint
    path: Path
    skipped: tuple[str, ...] = ()
    """Of each newer file, why it could not be read; a line each."""


def load_newest_checkpoint(run_dir: Path) -> FoundCheckpoint | None:
    """The checkpoint that was saved last, which `checkpoint.json` or `checkpoint.pt` stands for; where it is missing or
    damaged, the next one that is whole, of either form.

    None where there is no checkpoint at all. Raises CheckpointError, with the reason for every file, where none is
    whole.
    """
    latest = newest_name(run_dir)
    steps = [path for _, path in saved_checkpoints(run_dir)][::-1]
    if not steps and not (latest.exists() or latest.is_symlink()):
        return None
    skipped: list[str] = []
    for path in (latest, *steps):
        if path != latest and _same(path, latest):
            continue  # it has been looked at under its other name
        try:
            return FoundCheckpoint(load_checkpoint(_file(path)), path, tuple(skipped))
        except CheckpointError as error:
            skipped.append(str(error))
    raise CheckpointError(f"{run_dir} holds no complete checkpoint: {'; '.join(skipped)}")


def _file(path: Path) -> Path:
    """The path, which must not be a folder with a file's name: it would be searched for its own newest checkpoint."""
    if path.is_dir() and path.suffix == ".pt":
        raise CheckpointError(f"{path} is not a regular file")
    return path


def _same(path: Path, latest: Path) -> bool:
    """Whether the newest checkpoint is what has this name, too."""
    try:
        return path.samefile(pointed_folder(latest) if latest.name == POINTER_NAME else latest)
    except (OSError, CheckpointError):
        return False
