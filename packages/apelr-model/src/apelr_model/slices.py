"""How work over the whole vocabulary is cut into slices of tokens, so that its memory does not grow with the batch."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["SLICE_ELEMENTS", "SLICE_TOKENS", "in_slices", "recomputed", "slice_limit", "slice_rows"]

SLICE_ELEMENTS = 2**21
"""Logits (tokens x plan states x vocabulary) that one slice may hold: 8 MiB in float32."""

SLICE_TOKENS = 64
"""Tokens that a slice may hold however wide the head is: with fewer, reading the weight takes most of the time."""

Result = TypeVar("Result")


def slice_limit(elements_per_token: int) -> int:
    """The elements that one slice may hold: `SLICE_ELEMENTS`, or `SLICE_TOKENS` tokens where that is more."""
    return max(SLICE_ELEMENTS, SLICE_TOKENS * elements_per_token)


def slice_rows(num_tokens: int, elements_per_token: int, limit: int) -> Iterator[slice]:
    """The slices of 0 ... num_tokens - 1 that hold at most `limit` elements each, and at least one token."""
    size = max(1, limit // elements_per_token)
    for start in range(0, num_tokens, size):
        yield slice(start, min(start + size, num_tokens))


def recomputed(function: Callable[..., Result], *arguments: Tensor) -> Result:
    """The value of function(*arguments [N, ...]); what it makes on the way is made again for the backward pass."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    result: Result = checkpoint(function, *arguments, use_reentrant=False)
    return result


def in_slices(function: Callable[..., Tensor], elements_per_token: int, *arguments: Tensor) -> Tensor:
    """function(*arguments [N, ...]), its values [N, ...] made and recomputed a slice of tokens at a time.

    `elements_per_token` is the size of the largest tensor that the function makes, for one token.
    """
    parts = list(slice_rows(len(arguments[0]), elements_per_token, slice_limit(elements_per_token))) or [slice(0, 0)]
    return torch.cat([recomputed(function, *(argument[part] for argument in arguments)) for part in parts])
