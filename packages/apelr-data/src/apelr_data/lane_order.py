"""Rows in the order of the text: lanes that read it side by side, each from a place of its own."""

import numpy as np

from apelr_data.errors import DataError
from apelr_data.row_order import RowOrder

__all__ = ["LaneOrder"]


class LaneOrder:
    """Which row comes when, so that most go on where the row `lanes` places earlier ended.

    Global row g is the (g // lanes)-th of lane g % lanes. A lane reads `run` consecutive rows, then the next run that
    no lane has begun: runs come in a seeded order, each once an epoch, and every epoch cuts the text into runs at other
    places. (The last run of an epoch goes on at the text's beginning where the rows do not divide into runs.) As in
    `RowOrder` the order is a pure function of its arguments and the global row number, with nothing to save or resume.
    """

    def __init__(self, num_rows: int, lanes: int, seed: int, *, run: int) -> None:
        """Raises DataError when there are no rows or no lanes, or a run has no row; a run is at most the whole text."""
        for name, value in (("num_rows", num_rows), ("lanes", lanes), ("run", run)):
            if value < 1:
                raise DataError(f"{name} must be >= 1, got {value!r}")
        self._num_rows = num_rows
        self._lanes = lanes
        self._run = min(run, num_rows)
        self._runs = -(-num_rows // self._run)
        self._order = RowOrder(self._runs, seed)
        self._cuts = RowOrder(num_rows, seed)

    def indices(self, first_global_row: int, count: int) -> np.ndarray:
        """The row numbers, int64 [count], of global rows first_global_row … + count - 1."""
        if first_global_row < 0 or count < 0:
            raise DataError(f"first_global_row and count must be >= 0, got {first_global_row!r} and {count!r}")
        turn, lane = np.divmod(np.arange(first_global_row, first_global_row + count, dtype=np.int64), self._lanes)
        number = turn // self._run * self._lanes + lane  # of the run, counted over all lanes and epochs
        starts = {int(each): self._start(int(each)) for each in np.unique(number)}
        begun = np.array([starts[int(each)] for each in number], dtype=np.int64)
        rows: np.ndarray = (begun + turn % self._run) % self._num_rows
        return rows

    def _start(self, number: int) -> int:
        """The first row of a run."""
        epoch = number // self._runs
        cut = int(self._cuts.indices(epoch * self._num_rows, 1)[0])
        return cut + int(self._order.indices(number, 1)[0]) * self._run

    def continues(self, first_global_row: int, count: int) -> np.ndarray:
        """bool [count]: does the row go on from its lane's last one? Not at a run's start, nor at the text's."""
        rows = self.indices(first_global_row, count)
        place = np.arange(first_global_row, first_global_row + count, dtype=np.int64) // self._lanes % self._run
        goes_on: np.ndarray = (place > 0) & (rows != 0)
        return goes_on
