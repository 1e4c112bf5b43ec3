"""Rows in order: each once; carried batches go on row by row."""

from hypothesis import given
from hypothesis import strategies as st

from apelr_cli.row_batches import row_batches

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
    for number, (rows, goes_on) in enumerate(row_batches(count, batch_size, carried=True)):
        assert goes_on == (number > 0)
        if goes_on:
            assert rows == [row + 1 for row in before[: len(rows)]]
        before = rows
