"""The checkpoints of a run folder: their names, which is the newest, and which stay when a new one is complete.

One is a file, `checkpoints/step-<8 digits>.pt`, or a folder of that name without the ending.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from apelr_model.archive import flush_folder, named_errors
from apelr_model.errors import CheckpointError
from apelr_model.shard_manifest import MANIFEST_NAME, read_bounded_json
from apelr_model.shown import shown

__all__ = [
    "LATEST_NAME",
    "POINTER_NAME",
    "find_checkpoint",
    "newest_name",
    "point_to",
    "pointed_folder",
    "remove_interrupted",
    "remove_old_checkpoints",
    "remove_other_form",
    "replace_folder",
    "saved_checkpoints",
    "shards_path",
    "step_path",
]

FOLDER_NAME = "checkpoints"
LATEST_NAME = "checkpoint.pt"
POINTER_NAME = "checkpoint.json"
"""Names the newest checkpoint where that is a folder; where it is there it counts, and not `checkpoint.pt`."""
LARGEST_POINTER = 4096
"""Bytes."""
STEP_NAME = re.compile(r"step-(\d{8,})(\.pt|\.old|)")
"""`.old` is a folder that another of the same step is about to replace."""
FEWEST_KEPT = 2
"""One that is complete, whatever becomes of the other."""


def step_path(run_dir: Path, step: int) -> Path:
    """The file of the checkpoint of a step."""
    return run_dir / FOLDER_NAME / f"step-{step:08d}.pt"


def shards_path(run_dir: Path, step: int) -> Path:
    """The folder of the sharded checkpoint of a step."""
    return run_dir / FOLDER_NAME / f"step-{step:08d}"


def _is_shards_name(name: str) -> bool:
    """Whether a folder of that name is a sharded checkpoint and not a run."""
    match = STEP_NAME.fullmatch(name)
    return match is not None and match[2] != ".pt"


def saved_checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """The checkpoints that there are, with their steps, in their order; whether they are whole is not asked.

    Raises OSError where the folder cannot be read.
    """
    folder = run_dir / FOLDER_NAME
    found = [(STEP_NAME.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match and (match[2] == ".pt" or path.is_dir()))


def newest_name(run_dir: Path) -> Path:
    """What stands for the newest checkpoint of a run: `checkpoint.json` where it is there, else `checkpoint.pt`."""
    pointer = run_dir / POINTER_NAME
    return pointer if pointer.exists() or pointer.is_symlink() else run_dir / LATEST_NAME


def pointed_folder(pointer: Path) -> Path:
    """The folder that `checkpoint.json` names. Raises CheckpointError where it names none."""
    content = read_bounded_json(pointer, LARGEST_POINTER)
    name = content.get("newest")
    if content.keys() != {"newest"} or not isinstance(name, str):
        raise CheckpointError(f"{pointer} does not name a checkpoint: it must hold the key 'newest' alone")
    folder, _, last = name.partition("/")
    if folder != FOLDER_NAME or not _is_shards_name(last):
        raise CheckpointError(f"{pointer}: key 'newest' must be {FOLDER_NAME}/step-<8 digits>, got {shown(name)}")
    return pointer.parent / folder / last


def find_checkpoint(path: Path) -> Path:
    """The file, or the folder of a sharded checkpoint, that a path stands for: its own, or a run's.

    Raises CheckpointError where there is none.
    """
    if path.is_dir() and (_is_shards_name(path.name) or (path / MANIFEST_NAME).exists()):
        return path
    file = newest_name(path) if path.is_dir() else path
    if not file.exists():
        looked = f"{file} (the newest checkpoint of the run)" if path.is_dir() else str(file)
        raise CheckpointError(f"checkpoint not found: {looked}")
    if not file.is_file():
        raise CheckpointError(f"{file} is not a regular file")
    return pointed_folder(file) if file.name == POINTER_NAME else file


def point_to(run_dir: Path, folder: Path) -> None:
    """Make a complete folder the run's newest checkpoint. At any instant there is an old name or the new one."""
    temporary = folder.with_name(f"{folder.name}.json.tmp")
    try:
        with (
            named_errors(run_dir / POINTER_NAME),
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.write(json.dumps({"newest": f"{FOLDER_NAME}/{folder.name}"}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(run_dir / POINTER_NAME)
    finally:
        temporary.unlink(missing_ok=True)
    (run_dir / LATEST_NAME).unlink(missing_ok=True)
    flush_folder(run_dir)


def replace_folder(temporary: Path, folder: Path) -> None:
    """Give a complete folder its name. One that has it already is there as `.old` until this one has it."""
    old = folder.with_name(f"{folder.name}.old")
    if folder.is_dir():
        _remove(old)
        folder.rename(old)
    temporary.rename(folder)
    flush_folder(folder.parent)
    _remove(old)


def remove_interrupted(run_dir: Path) -> None:
    """Remove what a killed save or removal has left: temporary files, maybe second names of complete ones, and folders.

    Raises OSError.
    """
    for left in (run_dir / FOLDER_NAME).glob("step-*.tmp"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def remove_old_checkpoints(run_dir: Path, step: int, keep: int | None, validation_nll: Mapping[int, float]) -> None:
    """Remove what interrupted saves have left, and all checkpoints before `step`, which is complete, but the newest and
    the best; the oldest first.

    `keep` of them stay, that of `step` counted in, or all; and, of all that have a validation NLL (by step), the one
    with the lowest. Those of later steps are no affair of this run's. Raises OSError; ValueError where `keep` is below
    2.
    """
    if keep is not None and keep < FEWEST_KEPT:
        raise ValueError(f"at least {FEWEST_KEPT} checkpoints must be kept, got {keep}")
    remove_interrupted(run_dir)
    if keep is None:
        return
    earlier = [(number, path) for number, path in saved_checkpoints(run_dir) if number <= step]
    steps = sorted({number for number, _ in earlier})
    best = min((n for n in steps if n in validation_nll), key=lambda n: (validation_nll[n], n), default=step)
    gone = set(steps[:-keep]) - {best}
    old = [path for number, path in earlier if number in gone and not (path.suffix == ".pt" and path.is_dir())]
    for path in old:
        _remove(path)
    if old:
        flush_folder(run_dir / FOLDER_NAME)


def remove_other_form(path: Path) -> None:
    """Of the step of a complete checkpoint, remove the one of the other form, file or folder, where there is one."""
    other = path.with_suffix("") if path.suffix == ".pt" else path.with_name(f"{path.name}.pt")
    if other.is_dir() == (other.suffix != ".pt"):
        _remove(other)


def _remove(path: Path) -> None:
    """A file, or a folder, which loses its name before its files."""
    if path.is_dir() and not path.is_symlink():
        doomed = path.with_name(f"{path.name}.gone.tmp")
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)
