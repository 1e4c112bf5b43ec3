"""Sharded checkpoints: a folder with one file of tensors from each process, and a manifest, written last.

The content is that of a checkpoint file. Layout, guarantees: docs/checkpoints.md.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apelr_model.archive import flush_folder, named_errors
from apelr_model.checkpoint_checks import FORMAT, FORMAT_VERSION, check_finite
from apelr_model.checkpoint_files import point_to, remove_interrupted, replace_folder, shards_path
from apelr_model.errors import CheckpointError
from apelr_model.shard_files import DTYPE_NAMES, FileRecord, file_record, opened_tensors, write_tensors
from apelr_model.shard_manifest import (
    LARGEST_MANIFEST,
    MANIFEST_NAME,
    SHARDS_FORMAT,
    SHARDS_VERSION,
    StoredTensor,
    check_manifest,
    manifest_text,
    read_bounded_json,
)
from apelr_model.shown import one_line, shown_names
from apelr_model.tensor_tree import TensorPart, from_plain_tree, to_plain_tree
from apelr_model.world import World

__all__ = ["read_shards", "save_shards"]

MODEL = "model."
"""How the names of parameters begin."""
NAMES_OF_DTYPES = {dtype: name for name, dtype in DTYPE_NAMES.items()}


def save_shards(run_dir: Path, content: Mapping[str, Any], world: World) -> Path:
    """Write a checkpoint's content as `run_dir/checkpoints/step-<8 digits>/`; all processes call it.

    A process writes the rows that it has of a `TensorPart`, and its share of the rows of whole tensors. The folder has
    another name until all files, the manifest as the last, are complete. Where one process fails none completes it:
    that one raises its own error (OSError, NonFiniteError, CheckpointError), the others a CheckpointError naming it.
    """
    folder = shards_path(run_dir, content["step"])
    temporary = folder.with_name(f"{folder.name}.tmp")
    plain, tensors = to_plain_tree(content["training"], "training")
    parts = {name: _own_part(tensor, world) for name, tensor in tensors.items()}
    model = {MODEL + name: _own_part(tensor, world) for name, tensor in content["model"].items()}
    try:
        with _all_or_none(world, folder):
            check_finite(content["model"], content["training"], f"{folder} is not written")
            if world.is_first:
                remove_interrupted(run_dir)
                temporary.mkdir(parents=True)
        with _all_or_none(world, folder):
            own = _write_own(temporary, model | parts, world)
        about = [json.loads(text) for text in world.texts(own)]
        with _all_or_none(world, folder):
            if world.is_first:
                kept = {key: value for key, value in content.items() if key != "model"}
                kept |= {"format": SHARDS_FORMAT, "format_version": SHARDS_VERSION, "training": plain}
                _write_manifest(temporary, kept, model | parts, about)
                replace_folder(temporary, folder)
                point_to(run_dir, folder)
    finally:
        if world.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


@contextmanager
def _all_or_none(world: World, folder: Path) -> Iterator[None]:
    """All processes go on behind the block, or none does."""
    try:
        yield
    except (OSError, ValueError) as error:
        world.problem_of_any(str(error) or type(error).__name__)
        raise
    if problem := world.problem_of_any():
        raise CheckpointError(f"{folder} is not written: {problem}")


def _own_part(tensor: Tensor | TensorPart, world: World) -> TensorPart:
    """What this process writes: of a whole tensor of numbers a run of its rows, of all else all or nothing."""
    if isinstance(tensor, TensorPart):
        return tensor
    shape = tuple(tensor.shape)
    if not shape:
        return TensorPart(tensor.reshape(1)[: 1 if world.is_first else 0], 0, shape)
    if not tensor.is_floating_point() or len(tensor) < world.size:
        return TensorPart(tensor[: len(tensor) if world.is_first else 0], 0, shape)
    each = -(-len(tensor) // world.size)
    first = min(each * world.rank, len(tensor))
    return TensorPart(tensor[first : first + each], first, shape)


def _write_own(folder: Path, parts: Mapping[str, TensorPart], world: World) -> str:
    """Write this process's file; what the manifest says of it, as JSON."""
    name = f"shard-{world.rank + 1:05d}-of-{world.size:05d}.safetensors"
    own = {key: part for key, part in parts.items() if len(part.rows)}
    record = write_tensors(
        folder / name, {key: part.rows if part.shape else part.rows.reshape(()) for key, part in own.items()}
    )
    rows = {key: [part.first, part.first + len(part.rows)] for key, part in own.items()}
    return json.dumps({"name": name, "record": record._asdict(), "rows": rows})


def _write_manifest(
    folder: Path, kept: Mapping[str, Any], parts: Mapping[str, TensorPart], about: list[dict[str, Any]]
) -> None:
    """The last file of the folder, flushed; then the folder."""
    tensors = {
        name: StoredTensor(
            NAMES_OF_DTYPES[part.rows.dtype],
            list(part.shape),
            [[number, *each["rows"][name]] for number, each in enumerate(about) if name in each["rows"]],
        )._asdict()
        for name, part in parts.items()
    }
    files = {each["name"]: each["record"] for each in about}
    path = folder / MANIFEST_NAME
    text = manifest_text({**kept, "files": files, "tensors": tensors}, path)
    check_manifest(json.loads(text), str(path))  # that the parts of all processes make up every tensor
    with named_errors(path), path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    flush_folder(folder)


def read_shards(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint file, from a folder that any number of processes have written; whole tensors.

    Raises CheckpointError naming the folder's file that is missing, damaged, or no part of it.
    """
    path = folder / MANIFEST_NAME
    content = read_bounded_json(path, LARGEST_MANIFEST)
    files, stored = check_manifest(content, str(path))
    _check_files(folder, files)
    tensors = _read_tensors(folder, list(files), stored)
    model = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith(MODEL)}
    try:
        training = from_plain_tree(content.get("training"), others)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise CheckpointError(f"{path}: key 'training' is not what a save writes: {reason}") from error
    kept = {key: value for key, value in content.items() if key not in ("files", "tensors")}
    return {**kept, "format": FORMAT, "format_version": FORMAT_VERSION, "training": training, "model": model}


def _check_files(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Raise CheckpointError unless the folder holds these files, and no other, as they were written."""
    try:
        there = {path.name for path in folder.iterdir()} - {MANIFEST_NAME}
        if extra := there - files.keys():
            raise CheckpointError(f"{folder} holds what is no part of the checkpoint: {shown_names(extra)}")
        for name, record in files.items():
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{path} is {'not a regular file' if name in there else 'missing'}")
            if path.stat().st_size != record.size or file_record(path) != record:
                raise CheckpointError(f"{path} is damaged: its size or sha256 is not that of the manifest")
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def _read_tensors(folder: Path, files: list[str], stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Every tensor, in memory of its own."""
    whole = {name: torch.empty(about.shape, dtype=DTYPE_NAMES[about.dtype]) for name, about in stored.items()}
    for number, file in enumerate(files):
        parts = {name: part[1:] for name, about in stored.items() for part in about.parts if part[0] == number}
        with opened_tensors(folder / file) as found:
            if set(found.keys()) != parts.keys():
                differ = shown_names(set(found.keys()) ^ parts.keys())
                raise CheckpointError(f"{folder / file} does not hold the tensors of the manifest: {differ}")
            for name, (first, end) in parts.items():
                about, kept = stored[name], found.get_slice(name)
                shape = [end - first, *about.shape[1:]] if about.shape else []
                if list(kept.get_shape()) != shape or kept.get_dtype() != about.dtype:
                    raise CheckpointError(f"{folder / file}: tensor {name} is not that of the manifest")
                target = whole[name][first:end] if about.shape else whole[name]
                target.copy_(found.get_tensor(name))
    return whole
