"""Rows in the order of the text: lanes that read it side by side, each from a place of its own."""

import numpy as np

from apelr_data.errors import DataError
from apelr_data.row_order import RowOrder

__all__ = ["LaneOrder"]


class LaneOrder:
    """Which row comes when, so that each goes on where the row `lanes` places earlier ended.

    Global row g is the (g // lanes)-th of lane g % lanes. Lanes start evenly spread over the text, the first at a place
    drawn from the seed, and go round it for ever: all rows are drawn equally often. As in `RowOrder` the order is a
    pure function of its arguments and the global row number, with nothing to save or resume.
    """

    def __init__(self, num_rows: int, lanes: int, seed: int) -> None:
        """Raises DataError when there are no rows or no lanes."""
        if lanes < 1:
            raise DataError(f"lanes must be >= 1, got {lanes!r}")
        first = int(RowOrder(num_rows, seed).indices(0, 1)[0])
        self._num_rows = num_rows
        self._lanes = lanes
        self._starts = (first + np.arange(lanes, dtype=np.int64) * num_rows // lanes) % num_rows

    def indices(self, first_global_row: int, count: int) -> np.ndarray:
        """The row numbers, int64 [count], of global rows first_global_row … + count - 1."""
        if first_global_row < 0 or count < 0:
            raise DataError(f"first_global_row and count must be >= 0, got {first_global_row!r} and {count!r}")
        turn, lane = np.divmod(np.arange(first_global_row, first_global_row + count, dtype=np.int64), self._lanes)
        return (self._starts[lane] + turn) % self._num_rows

    def continues(self, first_global_row: int, count: int) -> np.ndarray:
        """bool [count]: does the row go on from its lane's last one? Not at a lane's start, nor at the text's."""
        rows = self.indices(first_global_row, count)
        begun = np.arange(first_global_row, first_global_row + count) >= self._lanes
        goes_on: np.ndarray = begun & (rows != 0)
        return goes_on
