"""A stream of ids -> rows of T + 1 ids -> batches, and the order in which rows are drawn."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apelr_data.errors import DataError
from apelr_data.pack import TokenStream


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows of up to T targets, padded on the right; all arrays are int64."""

    inputs: np.ndarray
    "Ids [B, T]; pad_id behind a row's end."
    targets: np.ndarray
    "The id that follows each input [B, T]; pad_id behind a row's end."
    lengths: np.ndarray
    "Valid targets of each row [B], from 1 to T."
    byte_counts: np.ndarray
    "UTF-8 bytes of the text that each target accounts for [B, T]; 0 for BOS, EOS and padding."


class Rows:
    """Windows of T + 1 ids over a stream, `stride` apart; the last one may be shorter.

    With stride <= T every id but the first is a target of some row, and with stride == T of exactly one.
    """

    def __init__(self, stream: TokenStream, seq_len: int, stride: int | None = None) -> None:
        """`seq_len` is T; `stride` is T when it is not given. Raises DataError for sizes that give no row."""
        self._stream = stream
        self._seq_len = seq_len
        self._stride = seq_len if stride is None else stride
        for name, value in (("seq_len", self._seq_len), ("stride", self._stride)):
            if value < 1:
                raise DataError(f"{name} must be >= 1, got {value!r}")
        if len(stream.ids) < 2:
            raise DataError(f"a stream of {len(stream.ids)} ids holds no target; at least 2 are needed, give more text")

    def __len__(self) -> int:
        """The number of rows: as few as cover the targets, each with at least one target of its own."""
        targets = len(self._stream.ids) - 1
        to_cover_all = 1 + math.ceil(max(0, targets - self._seq_len) / self._stride)
        with_a_target = math.ceil(targets / self._stride)
        return min(to_cover_all, with_a_target)

    def batch(self, row_indices: np.ndarray | Sequence[int]) -> Batch:
        """The rows of these numbers, in this order. Raises IndexError for a number out of range."""
        rows = np.asarray(row_indices, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"row numbers must be in 0 .. {len(self) - 1}")
        last = len(self._stream.ids) - 1
        positions = rows[:, None] * self._stride + np.arange(self._seq_len)
        valid = positions < last
        here, following = np.minimum(positions, last), np.minimum(positions + 1, last)
        ids, pad_id = self._stream.ids, self._stream.pad_id
        return Batch(
            inputs=np.where(valid, ids[here].astype(np.int64), pad_id),
            targets=np.where(valid, ids[following].astype(np.int64), pad_id),
            lengths=valid.sum(axis=1, dtype=np.int64),
            byte_counts=np.where(valid, self._stream.byte_counts[following].astype(np.int64), 0),
        )


class RowOrder:
    """Which row comes when: a pure function of (seed, global row number), with nothing to save or resume.

    Global row g belongs to epoch g // num_rows; each epoch is a permutation of all rows, drawn from the seed and
    the epoch alone. The order does not depend on batch size, processes or the versions of libraries.
    """

    def __init__(self, num_rows: int, seed: int) -> None:
        """Raises DataError when there are no rows."""
        if num_rows < 1:
            raise DataError(f"num_rows must be >= 1, got {num_rows!r}")
        self._num_rows = num_rows
        self._seed = seed
        self._latest: tuple[int, np.ndarray] | None = None

    def indices(self, first_global_row: int, count: int) -> np.ndarray:
        """The row numbers, int64 [count], of global rows first_global_row … + count - 1."""
        if first_global_row < 0 or count < 0:
            raise DataError(f"first_global_row and count must be >= 0, got {first_global_row!r} and {count!r}")
        parts = [np.empty(0, dtype=np.int64)]
        at, end = first_global_row, first_global_row + count
        while at < end:
            epoch, offset = divmod(at, self._num_rows)
            part = self._permutation(epoch)[offset : offset + end - at]
            parts.append(part)
            at += len(part)
        return np.concatenate(parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        """The epoch's order of all rows; the latest one is kept."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = (epoch, seeded_permutation(self._num_rows, f"{self._seed}:{epoch}"))
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
