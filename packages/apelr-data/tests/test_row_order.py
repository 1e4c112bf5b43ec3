"""The order of rows: a function of seed and global row number, whoever asks and whenever."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, RowOrder, row_order
from apelr_data.row_order import seeded_permutation

SEEDS = st.integers(-(2**70), 2**70)


@given(st.integers(1, 50), SEEDS, st.integers(0, 5))
def test_every_epoch_is_a_permutation(num_rows, seed, epoch):
    order = RowOrder(num_rows, seed).indices(epoch * num_rows, num_rows)
    assert sorted(order.tolist()) == list(range(num_rows))
    assert order.dtype == np.int64


@given(st.integers(1, 30), SEEDS, st.integers(0, 100), st.integers(0, 100), st.integers(1, 17))
def test_any_slice_can_be_asked_for_at_any_time(num_rows, seed, first, count, batch_size):
    whole = RowOrder(num_rows, seed).indices(0, first + count).tolist()
    assert RowOrder(num_rows, seed).indices(first, count).tolist() == whole[first:]
    order = RowOrder(num_rows, seed)
    parts = []
    for start in range(0, first + count, batch_size):
        parts += order.indices(start, min(batch_size, first + count - start)).tolist()
    assert parts == whole


def test_seeds_and_epochs_differ():
    one, other = RowOrder(1000, 1), RowOrder(1000, 2)
    assert one.indices(0, 1000).tolist() != other.indices(0, 1000).tolist()
    assert one.indices(0, 1000).tolist() != one.indices(1000, 1000).tolist()


def test_the_order_is_frozen():
    assert RowOrder(10, 0).indices(0, 12).tolist() == [8, 7, 9, 3, 5, 2, 4, 1, 6, 0, 2, 6]


def test_the_permutation_looks_random():
    places = np.stack([np.argsort(seeded_permutation(20, f"{key}")) for key in range(4000)])
    counts = np.stack([np.bincount(column, minlength=20) for column in places.T])
    assert abs(counts - 200).max() < 80  # 200 expected in each place, standard deviation 14
    neighbours = np.diff(seeded_permutation(100_000, "long"))
    assert (neighbours == 1).sum() < 10


def test_an_order_of_nothing_is_refused():
    with pytest.raises(DataError, match=r"^num_rows must be >= 1, got 0$"):
        RowOrder(0, 1)
    with pytest.raises(DataError, match=r"^first_global_row and count must be >= 0, got -1 and 2$"):
        RowOrder(3, 1).indices(-1, 2)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 10 rows, in this process."""
    monkeypatch.setattr(row_order, "BLOCK_ROWS", 10)


@pytest.mark.parametrize("num_rows", [10, 11, 20, 47])
@pytest.mark.usefixtures("small_blocks")
def test_many_rows_come_block_by_block_each_epoch_with_every_row_once(num_rows):
    order = RowOrder(num_rows, 3)
    epochs = order.indices(0, 3 * num_rows).reshape(3, num_rows)
    firsts = []
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(num_rows))
        blocks = [block for i, block in enumerate(epoch // 10) if i == 0 or block != epoch[i - 1] // 10]
        assert sorted(blocks) == list(range(-(-num_rows // 10)))
        firsts.append((tuple(blocks), tuple(epoch)))
    assert len(set(firsts)) == 3


@given(st.integers(1, 60), SEEDS, st.integers(0, 130), st.integers(0, 130))
def test_blocks_too_can_be_asked_for_from_any_place(num_rows, seed, first, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_order, "BLOCK_ROWS", 7)
        whole = RowOrder(num_rows, seed).indices(0, first + count).tolist()
        assert RowOrder(num_rows, seed).indices(first, count).tolist() == whole[first:]


@pytest.mark.usefixtures("small_blocks")
def test_the_order_of_blocks_is_frozen():
    assert RowOrder(23, 0).indices(0, 23).tolist() == [
        *(21, 22, 20, 12, 14, 19, 18, 16, 15, 17, 10, 11, 13),
        *(0, 5, 3, 7, 1, 2, 9, 8, 4, 6),
    ]


def test_a_huge_corpus_needs_no_more_memory_than_a_block(monkeypatch):
    sizes = []

    def noting(size, key):
        sizes.append(size)
        return seeded_permutation(size, key)

    monkeypatch.setattr(row_order, "seeded_permutation", noting)
    rows = RowOrder(10**9, 0).indices(10**9 - 5, 10)
    assert len(set(rows.tolist())) == 10
    assert max(sizes) <= row_order.BLOCK_ROWS


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_take_every_wth_row_together_give_the_order_of_one(workers):
    first, count = 17, 60
    alone = RowOrder(25, 9).indices(first, count).tolist()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        places = [range(first + worker, first + count, workers) for worker in range(workers)]
        shares = [pool.map(RowOrder(25, 9).indices, mine, [1] * len(mine)) for mine in places]
        found = [list(zip(mine, share, strict=True)) for mine, share in zip(places, shares, strict=True)]
    together = dict(each for share in found for each in share)
    assert [together[row].item() for row in range(first, first + count)] == alone
