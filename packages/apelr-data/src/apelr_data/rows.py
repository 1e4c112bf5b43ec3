"""A stream of ids -> rows of T + 1 ids -> batches."""

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
    positions: np.ndarray | None = None
    """Targets of the same document before each one [B, T], counted from the row's start or from the last input that
    is BOS, whose own target has position 0; they go on behind a row's end. None without a document mask."""


class Rows:
    """Windows of T + 1 ids over a stream, `stride` apart; the last one may be shorter.

    With stride <= T every id but the first is a target of some row, and with stride == T of exactly one.
    """

    def __init__(
        self, stream: TokenStream, seq_len: int, stride: int | None = None, *, document_mask: bool = False
    ) -> None:
        """`seq_len` is T; `stride` is T when it is not given; `document_mask` gives batches positions in documents.

        Raises DataError for sizes that give no row.
        """
        self._document_mask = document_mask
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

    def stream_positions(self, row_indices: np.ndarray | Sequence[int]) -> np.ndarray:
        """Where each target of these rows stands in the stream, int64 [B, T]; -1 behind a row's end.

        So `labels[positions]` are the targets' labels, where `labels` [N] holds one for each id of the stream. Raises
        IndexError for a number out of range.
        """
        positions = self._inputs(row_indices)
        return np.where(positions < len(self._stream.ids) - 1, positions + 1, -1)

    def _inputs(self, row_indices: np.ndarray | Sequence[int]) -> np.ndarray:
        """Where the inputs of these rows stand in the stream, or would stand behind its end [B, T]."""
        rows = np.asarray(row_indices, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"row numbers must be in 0 .. {len(self) - 1}")
        return rows[:, None] * self._stride + np.arange(self._seq_len)

    def batch(self, row_indices: np.ndarray | Sequence[int]) -> Batch:
        """The rows of these numbers, in this order. Raises IndexError for a number out of range."""
        last = len(self._stream.ids) - 1
        positions = self._inputs(row_indices)
        valid = positions < last
        here, following = np.minimum(positions, last), np.minimum(positions + 1, last)
        ids, pad_id = self._stream.ids, self._stream.pad_id
        inputs = np.where(valid, ids[here].astype(np.int64), pad_id)
        return Batch(
            inputs=inputs,
            targets=np.where(valid, ids[following].astype(np.int64), pad_id),
            lengths=valid.sum(axis=1, dtype=np.int64),
            byte_counts=np.where(valid, self._stream.byte_counts[following].astype(np.int64), 0),
            positions=document_positions(inputs, self._stream.bos_id) if self._document_mask else None,
        )


def document_positions(inputs: np.ndarray, bos_id: int) -> np.ndarray:
    """inputs [B, T] -> int64 [B, T]: targets since the row's start or since the last input that is BOS."""
    places = np.arange(inputs.shape[1], dtype=np.int64)
    starts = np.maximum.accumulate(np.where(inputs == bos_id, places, 0), axis=1)
    return places - starts
