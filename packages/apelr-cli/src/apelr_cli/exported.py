"""Reading what `apelr export` wrote, or transformers saved after it, back into a checkpoint."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from apelr_cli.shown import shown
from apelr_model import Checkpoint, CheckpointError, checkpoint_from_parts

__all__ = ["CONFIG", "DESCRIPTION", "OWN_TOKENIZER", "TOKENIZER", "WEIGHTS", "is_exported", "load_exported"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
OWN_TOKENIZER = "apelr_tokenizer.json"
"""In a folder for transformers, whose `tokenizer.json` is that library's form of it."""
DESCRIPTION = "apelr"
"""The key of `config.json` that holds everything of a checkpoint but tensors and tokenizer."""
PREFIX = "planner_lm."
"""Of tensors' names in a folder for transformers."""
LARGEST_JSON = 64 * 1024 * 1024
"""Bytes; larger files are not looked into."""


def is_exported(path: Path) -> bool:
    """Whether a folder has the two files of every export: `config.json` with our key, and safetensors."""
    if not path.is_dir() or not any((path / name).is_file() for name in (WEIGHTS, INDEX)):
        return False
    try:
        return DESCRIPTION in _read_json(path / CONFIG)
    except CheckpointError:
        return False


def load_exported(folder: Path, *, allow_unexpected: bool = False) -> Checkpoint:
    """The checkpoint in a folder of either format; without a tokenizer where ours is not in it.

    With `allow_unexpected`, tensors that the model does not have are left out, with a notice.
    Raises CheckpointError, naming the file and the key or tensor, where something is missing, damaged or unfit.
    """
    config = _read_json(folder / CONFIG)
    description = config.get(DESCRIPTION)
    if not isinstance(description, dict):
        raise CheckpointError(f"{folder / CONFIG}: key {DESCRIPTION!r} must be an object, got {shown(description)}")
    by_transformers = "model_type" in config
    tensors = _read_tensors(folder)
    if by_transformers:
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    tokenizer = folder / (OWN_TOKENIZER if by_transformers else TOKENIZER)
    text = _read_text(tokenizer) if tokenizer.is_file() else None
    return checkpoint_from_parts(description, tensors, str(folder), tokenizer=text, allow_unexpected=allow_unexpected)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """Of the one file, or of all that the index names."""
    names = {WEIGHTS}
    if not (folder / WEIGHTS).is_file():
        places = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise CheckpointError(f"{folder / INDEX}: key 'weight_map' must map tensors to files")
        names = {Path(name).name for name in places.values()}  # files of this folder, whatever the index says
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        try:
            tensors |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / name} is not a safetensors file or is damaged: {error}") from error
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {shown(content)}")
    return content


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a regular file")
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path} is larger than {LARGEST_JSON} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
