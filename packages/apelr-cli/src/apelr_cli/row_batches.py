"""Rows that are read from the first to the last: which of them make a batch."""

import math
from collections.abc import Iterator

__all__ = ["LANE_ROWS", "row_batches"]

LANE_ROWS = 16
"""Rows over which a belief is carried in an evaluation: a number of its own, so that no figure depends on batches."""


def row_batches(count: int, batch_size: int, *, carried: bool) -> Iterator[tuple[list[int], bool | None]]:
    """Rows 0 .. count - 1, each once, in batches; and whether a batch's rows go on from those of the batch before.

    Plain batches are consecutive rows, of which none goes on (None). `carried` ones read up to `batch_size` lanes of
    consecutive rows side by side: row i of a batch is the row after row i of the batch before. A lane has `LANE_ROWS`
    rows, or half of the rows where there are fewer than two such lanes, so that there is another lane to compare with.
    The last lane may be shorter, and batches then too.
    """
    if not carried:
        for start in range(0, count, batch_size):
            yield list(range(start, min(start + batch_size, count))), None
        return
    length = max(1, min(LANE_ROWS, math.ceil(count / 2)))
    for first in range(0, count, batch_size * length):
        end = min(first + batch_size * length, count)
        for place in range(min(length, end - first)):
            yield list(range(first + place, end, length)), place > 0
