"""Rows that are read from the first to the last: which of them make a batch."""

import math
from collections.abc import Iterator

__all__ = ["row_batches"]


def row_batches(count: int, batch_size: int, *, carried: bool) -> Iterator[tuple[list[int], bool | None]]:
    """Rows 0 .. count - 1, each once, in batches; and whether a batch's rows go on from those of the batch before.

    Plain batches are consecutive rows, of which none goes on (None). `carried` ones are `batch_size` runs of
    consecutive rows side by side: row i of a batch is the row after row i of the batch before. The last runs may be
    shorter, and batches then too.
    """
    if not carried:
        for start in range(0, count, batch_size):
            yield list(range(start, min(start + batch_size, count))), None
        return
    length = math.ceil(count / batch_size)
    for place in range(length):
        yield list(range(place, count, length)), place > 0
