"""Standard output for results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = ["result_stream"]


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """Standard output in UTF-8 with line ends as written, whatever the platform's habit.

    It is flushed at the end of the block, while the program can still answer a reader that has gone away.
    """
    with suppress(AttributeError, ValueError, OSError):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    yield sys.stdout
    sys.stdout.flush()
