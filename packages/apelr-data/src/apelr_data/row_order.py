"""The order in which rows are drawn: a function of the seed and the global row number, and of nothing else."""

import hashlib
import math

import numpy as np

from apelr_data.errors import DataError

BLOCK_ROWS = 1 << 20
"""Rows that are permuted together: the order never holds more numbers than these."""


class RowOrder:
    """Which row comes when: a pure function of (seed, global row number), with nothing to save or resume.

    Global row g belongs to epoch g // num_rows; each epoch is a permutation of all rows, drawn from the seed and
    the epoch alone. The order does not depend on batch size, processes or the versions of libraries, so that w
    workers, each taking every w-th row or batch, together give what one gives, and so does a run taken up anywhere.

    More than `BLOCK_ROWS` rows are permuted in blocks of that many consecutive ones (the last may be smaller): the
    blocks come in a seeded order, and the rows of each in a seeded order. Memory is then constant for any corpus,
    and rows that are drawn near to each other lie near to each other in the files of a token cache.
    """

    def __init__(self, num_rows: int, seed: int) -> None:
        """Raises DataError when there are no rows."""
        if num_rows < 1:
            raise DataError(f"num_rows must be >= 1, got {num_rows!r}")
        self._num_rows = num_rows
        self._seed = seed
        self._block_rows = BLOCK_ROWS
        self._blocks: tuple[int, np.ndarray] | None = None
        self._latest: tuple[tuple[int, int], np.ndarray] | None = None

    def indices(self, first_global_row: int, count: int) -> np.ndarray:
        """The row numbers, int64 [count], of global rows first_global_row … + count - 1."""
        if first_global_row < 0 or count < 0:
            raise DataError(f"first_global_row and count must be >= 0, got {first_global_row!r} and {count!r}")
        parts = [np.empty(0, dtype=np.int64)]
        at, end = first_global_row, first_global_row + count
        while at < end:
            epoch, offset = divmod(at, self._num_rows)
            part = self._rest_of_block(epoch, offset)[: end - at]
            parts.append(part)
            at += len(part)
        return np.concatenate(parts)

    def _rest_of_block(self, epoch: int, offset: int) -> np.ndarray:
        """The row numbers from place `offset` of an epoch up to the end of the block that is drawn there."""
        order = self._order_of_blocks(epoch)
        ends = np.cumsum(np.minimum(self._block_rows, self._num_rows - order * self._block_rows))
        place = int(np.searchsorted(ends, offset, side="right"))
        rows = self._rows_of_block(epoch, int(order[place]))
        return rows[len(rows) - (int(ends[place]) - offset) :]

    def _order_of_blocks(self, epoch: int) -> np.ndarray:
        """The epoch's order of all blocks; the latest one is kept."""
        if self._blocks is None or self._blocks[0] != epoch:
            count = math.ceil(self._num_rows / self._block_rows)
            self._blocks = (epoch, seeded_permutation(count, f"{self._seed}:{epoch}:blocks"))
        return self._blocks[1]

    def _rows_of_block(self, epoch: int, block: int) -> np.ndarray:
        """The epoch's order of the rows of one block; the latest one is kept."""
        if self._latest is None or self._latest[0] != (epoch, block):
            first = block * self._block_rows
            size = min(self._block_rows, self._num_rows - first)
            key = f"{self._seed}:{epoch}" + (f":{block}" if self._num_rows > self._block_rows else "")
            self._latest = ((epoch, block), first + seeded_permutation(size, key))
        return self._latest[1]


def seeded_permutation(size: int, key: str) -> np.ndarray:
    """A permutation of 0 .. size - 1 as int64, made of integer arithmetic alone: row numbers sorted by a hash.

    The hash is SplitMix64's mixer over a counter that starts at a digest of `key`.
    """
    start = int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "big")
    value = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(value ^ (value >> np.uint64(31)), kind="stable").astype(np.int64)
