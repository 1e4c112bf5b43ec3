"""Nested dicts, lists and tuples that hold tensors: copied, and taken apart into plain data and tensors by name."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["TensorPart", "copied_tree", "from_plain_tree", "to_plain_tree"]


class TensorPart(NamedTuple):
    """The rows of a tensor that one process has of it, in place of the whole."""

    rows: Tensor
    """[n, ...], maybe none."""
    first: int
    """Which row of the whole the first one is."""
    shape: tuple[int, ...]
    """Of the whole tensor."""


Leaf = Tensor | TensorPart


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


def to_plain_tree(tree: Any, prefix: str) -> tuple[Any, dict[str, Leaf]]:
    """The tree as data that JSON can hold, and its tensors by names that begin with `prefix`.

    A tensor is `{"tensor": name}`, a dict `{"items": [[key, value], ...]}`, a tuple `{"tuple": [...]}`.
    """
    tensors: dict[str, Leaf] = {}
    return _plain(tree, prefix, tensors), tensors


def _plain(value: Any, name: str, tensors: dict[str, Leaf]) -> Any:
    if isinstance(value, Tensor | TensorPart):
        while name in tensors:  # of a dict whose keys have dots
            name += "'"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _plain(each, f"{name}.{key}", tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        found = [_plain(each, f"{name}.{number}", tensors) for number, each in enumerate(value)]
        return found if isinstance(value, list) else {"tuple": found}
    return value


def from_plain_tree(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `to_plain_tree` took apart. Raises ValueError, KeyError or TypeError for anything that it does not give."""
    if isinstance(plain, list):
        return [from_plain_tree(each, tensors) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(from_plain_tree(each, tensors) for each in content)
    if kind != "items":
        raise ValueError(f"a value of the unknown kind {kind!r:.40}")
    return {_key(key): from_plain_tree(each, tensors) for key, each in _pairs(content)}


def _pairs(content: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(content, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        raise ValueError("items that are no pairs")
    return content


def _key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise ValueError("a key that is neither text nor a number")
    return key  # type: ignore[no-any-return]
