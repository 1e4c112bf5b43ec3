"""The switch between the fast forms of a computation and the plain ones that they are tested against."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["fast_forms", "plain_forms"]

_FAST = ContextVar("fast_forms", default=True)


def fast_forms() -> bool:
    """Are fast forms used? Asked where there are two."""
    return _FAST.get()


@contextmanager
def plain_forms() -> Iterator[None]:
    """Inside, what has a fast form and a plain one uses the plain one: for comparisons, and to rule the fast out.

    Those are the filter from chunk to chunk (in log space, step by step), the GRU in training on CPUs (PyTorch's),
    products of few rows with large weights on CPUs (`torch.nn.functional.linear`) and, where it was asked for, compiled
    decoding (step by step in PyTorch).
    """
    before = _FAST.set(False)
    try:
        yield
    finally:
        _FAST.reset(before)
