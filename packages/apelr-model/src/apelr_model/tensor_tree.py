"""Nested dicts, lists and tuples that hold tensors: a copy of all of them in memory of its own."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["copied_tree"]


def copied_tree(tree: Any) -> Any:
    """A copy on the CPU that shares no memory with the tree; tensors that were one and the same stay so (tied weights).

    One pass over the memory of every tensor, and nothing else that takes time. Values that are no containers and no
    tensors are taken as they are: they cannot change.
    """
    return _copied(tree, {})


def _copied(value: Any, made: dict[tuple[Any, ...], Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.dtype, value.shape, value.stride(), value.device)
        if key not in made:
            made[key] = value.detach().to("cpu", memory_format=torch.preserve_format, copy=True)
        return made[key]
    if isinstance(value, dict):
        return {key: _copied(each, made) for key, each in value.items()}
    if isinstance(value, list):
        return [_copied(each, made) for each in value]
    if isinstance(value, tuple):
        copies = [_copied(each, made) for each in value]
        return type(value)(*copies) if hasattr(value, "_fields") else tuple(copies)
    return value
