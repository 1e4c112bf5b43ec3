"""Lanes: rows go on where their lane stopped, all rows come about equally often, and the order is a pure function."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, LaneOrder

ROWS, LANES, SEEDS, RUNS = st.integers(1, 60), st.integers(1, 9), st.integers(-(2**70), 2**70), st.integers(1, 70)


@given(ROWS, LANES, SEEDS, RUNS, st.integers(1, 150))
def test_a_row_goes_on_where_its_lane_stopped_but_at_a_run_s_start(num_rows, lanes, seed, run, turns):
    order = LaneOrder(num_rows, lanes, seed, run=run)
    rows = order.indices(0, turns * lanes).reshape(turns, lanes)
    goes_on = order.continues(0, turns * lanes).reshape(turns, lanes)
    assert rows.dtype == np.int64
    assert ((rows >= 0) & (rows < num_rows)).all()
    for turn in range(turns):
        begins = turn % min(run, num_rows) == 0
        assert not goes_on[turn].any() if begins else (goes_on[turn] == (rows[turn] != 0)).all()
        if not begins:
            assert ((rows[turn] - rows[turn - 1]) % num_rows == 1 % num_rows).all()


@given(st.integers(1, 12), LANES, SEEDS, st.integers(1, 6), st.integers(0, 3))
def test_every_row_comes_once_an_epoch_where_runs_divide_the_text(runs, lanes, seed, run, epoch):
    """A whole number of epochs of each lane's turns; an epoch is a permutation of all rows."""
    num_rows, turns = runs * run, runs * run * (epoch + 1)
    rows = LaneOrder(num_rows, lanes, seed, run=run).indices(0, lanes * turns)
    assert np.bincount(rows, minlength=num_rows).tolist() == [lanes * (epoch + 1)] * num_rows


@given(ROWS, SEEDS, RUNS)
def test_one_lane_reads_every_row_in_an_epoch(num_rows, seed, run):
    run = min(run, num_rows)
    rows = LaneOrder(num_rows, 1, seed, run=run).indices(0, -(-num_rows // run) * run)
    counts = np.bincount(rows, minlength=num_rows)
    assert counts.min() == 1
    assert counts.max() <= 2


@given(ROWS, LANES, SEEDS, RUNS, st.integers(0, 100), st.integers(0, 100))
def test_any_slice_can_be_asked_for_at_any_time(num_rows, lanes, seed, run, first, count):
    whole, again = (LaneOrder(num_rows, lanes, seed, run=run) for _ in range(2))
    assert again.indices(first, count).tolist() == whole.indices(0, first + count).tolist()[first:]
    assert again.continues(first, count).tolist() == whole.continues(0, first + count).tolist()[first:]


def test_seeds_and_epochs_differ_and_the_order_is_frozen():
    orders = [LaneOrder(1000, 4, seed, run=10).indices(0, 4000).tolist() for seed in (1, 2)]
    assert orders[0] != orders[1]
    assert orders[0][:1000] != orders[0][1000:2000]
    assert LaneOrder(10, 3, 0, run=4).indices(0, 12).tolist() == FROZEN


FROZEN = [6, 2, 8, 7, 3, 9, 8, 4, 0, 9, 5, 1]


def test_bad_sizes_are_refused():
    for wrong in ("num_rows", "lanes", "run"):
        sizes = {"num_rows": 3, "lanes": 1, "run": 2, wrong: 0}
        with pytest.raises(DataError, match=rf"^{wrong} must be >= 1, got 0$"):
            LaneOrder(sizes["num_rows"], sizes["lanes"], 1, run=sizes["run"])
    with pytest.raises(DataError, match=r"^first_global_row and count must be >= 0, got -1 and 2$"):
        LaneOrder(3, 1, 1, run=2).indices(-1, 2)
