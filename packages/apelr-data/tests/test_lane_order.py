"""Lanes: every row goes on where its lane stopped, all rows come equally often, and the order is a pure function."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, LaneOrder

SIZES = (st.integers(1, 60), st.integers(1, 9), st.integers(-(2**70), 2**70))


@given(*SIZES, st.integers(1, 200))
def test_each_row_is_the_one_after_its_lane_s_last(num_rows, lanes, seed, turns):
    order = LaneOrder(num_rows, lanes, seed)
    rows = order.indices(0, turns * lanes).reshape(turns, lanes)
    goes_on = order.continues(0, turns * lanes).reshape(turns, lanes)
    assert ((rows[1:] - rows[:-1]) % num_rows == 1 % num_rows).all()
    assert not goes_on[0].any()
    assert (goes_on[1:] == (rows[1:] != 0)).all()
    assert rows.dtype == np.int64


@given(*SIZES)
def test_every_row_comes_as_often_as_any_other(num_rows, lanes, seed):
    rows = LaneOrder(num_rows, lanes, seed).indices(0, num_rows * lanes)
    assert np.bincount(rows, minlength=num_rows).tolist() == [lanes] * num_rows


@given(*SIZES)
def test_lanes_are_spread_evenly(num_rows, lanes, seed):
    starts = np.sort(LaneOrder(num_rows, lanes, seed).indices(0, lanes))
    gaps = np.diff([*starts, starts[0] + num_rows])
    assert gaps.max() - gaps.min() <= 1


@given(*SIZES, st.integers(0, 100), st.integers(0, 100))
def test_any_slice_can_be_asked_for_at_any_time(num_rows, lanes, seed, first, count):
    whole = LaneOrder(num_rows, lanes, seed)
    again = LaneOrder(num_rows, lanes, seed)
    assert again.indices(first, count).tolist() == whole.indices(0, first + count).tolist()[first:]
    assert again.continues(first, count).tolist() == whole.continues(0, first + count).tolist()[first:]


def test_seeds_differ_and_the_order_is_frozen():
    assert len({tuple(LaneOrder(1000, 4, seed).indices(0, 4).tolist()) for seed in range(20)}) > 15
    assert LaneOrder(10, 3, 0).indices(0, 9).tolist() == [8, 1, 4, 9, 2, 5, 0, 3, 6]


def test_bad_sizes_are_refused():
    with pytest.raises(DataError, match=r"^num_rows must be >= 1, got 0$"):
        LaneOrder(0, 1, 1)
    with pytest.raises(DataError, match=r"^lanes must be >= 1, got 0$"):
        LaneOrder(3, 0, 1)
    with pytest.raises(DataError, match=r"^first_global_row and count must be >= 0, got -1 and 2$"):
        LaneOrder(3, 1, 1).indices(-1, 2)
