"""Rows in order: each once; carried batches go on row by row, over lanes that no batch size changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_cli.row_batches import LANE_ROWS, row_batches

SIZES = (st.integers(0, 200), st.integers(1, 20))


@given(*SIZES, st.booleans())
def test_every_row_comes_once(count: int, batch_size: int, carried: bool) -> None:
    batches = list(row_batches(count, batch_size, carried=carried))
    assert sorted(row for rows, _ in batches for row in rows) == list(range(count))
    assert all(1 <= len(rows) <= batch_size for rows, _ in batches)


@given(*SIZES)
def test_plain_batches_are_consecutive(count: int, batch_size: int) -> None:
    batches = list(row_batches(count, batch_size, carried=False))
    assert [row for rows, _ in batches for row in rows] == list(range(count))
    assert all(goes_on is None for _, goes_on in batches)


@given(*SIZES)
def test_carried_rows_follow_those_of_the_batch_before(count: int, batch_size: int) -> None:
    before: list[int] = []
    for rows, goes_on in row_batches(count, batch_size, carried=True):
        if goes_on:
            assert rows == [row + 1 for row in before[: len(rows)]]
        before = rows


def starts(count: int, batch_size: int) -> list[int]:
    """The rows that go on from none."""
    batches = row_batches(count, batch_size, carried=True)
    return sorted(row for rows, goes_on in batches if not goes_on for row in rows)


@given(*SIZES)
def test_no_batch_size_changes_which_rows_go_on(count: int, batch_size: int) -> None:
    found = starts(count, batch_size)
    assert found == starts(count, 1)
    if count >= 2 * LANE_ROWS:
        assert found == list(range(0, count, LANE_ROWS))


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(1, [0]), (2, [0, 1]), (3, [0, 2]), (12, [0, 6]), (17, [0, 9]), (31, [0, 16]), (32, [0, 16]), (33, [0, 16, 32])],
)
def test_a_short_text_has_two_lanes(count: int, wanted: list[int]) -> None:
    assert LANE_ROWS == 16
    assert starts(count, 4) == wanted
