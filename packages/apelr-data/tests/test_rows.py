"""Rows of T + 1, batches of them, and the order in which they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, RowOrder, Rows, TokenStream
from apelr_data.rows import seeded_permutation

PAD = 7


def stream_of(length):
    ids = np.arange(100, 100 + length, dtype=np.uint16)
    return TokenStream(ids, np.arange(length, dtype=np.uint32), documents=1, text_bytes=0, unknown=0, pad_id=PAD)


SIZES = st.integers(2, 60), st.integers(1, 20), st.integers(1, 20)


@given(*SIZES)
def test_every_row_is_a_window_of_the_stream(length, seq_len, stride):
    stream = stream_of(length)
    rows = Rows(stream, seq_len, stride)
    batch = rows.batch(range(len(rows)))
    for array in (batch.inputs, batch.targets, batch.byte_counts):
        assert array.shape == (len(rows), seq_len)
        assert array.dtype == np.int64
    assert batch.lengths.dtype == np.int64
    for row in range(len(rows)):
        window = stream.ids[row * stride : row * stride + seq_len + 1].tolist()
        n = batch.lengths[row]
        assert n == len(window) - 1 >= 1
        assert batch.inputs[row].tolist() == window[:-1] + [PAD] * (seq_len - n)
        assert batch.targets[row].tolist() == window[1:] + [PAD] * (seq_len - n)
        counts = stream.byte_counts[row * stride + 1 : row * stride + 1 + n].tolist()
        assert batch.byte_counts[row].tolist() == counts + [0] * (seq_len - n)


@given(*SIZES)
def test_every_target_is_covered_up_to_a_stride_of_t(length, seq_len, stride):
    rows = Rows(stream_of(length), seq_len, min(stride, seq_len))
    batch = rows.batch(range(len(rows)))
    valid = np.arange(seq_len) < batch.lengths[:, None]
    assert sorted(set(batch.targets[valid].tolist())) == list(range(101, 100 + length))


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 5))
def test_with_a_stride_of_t_the_targets_are_the_stream(length, seq_len, batch_size):
    stream = stream_of(length)
    rows = Rows(stream, seq_len)
    targets, byte_counts = [], []
    for first in range(0, len(rows), batch_size):
        batch = rows.batch(np.arange(first, min(first + batch_size, len(rows))))
        for row, n in enumerate(batch.lengths):
            targets += batch.targets[row, :n].tolist()
            byte_counts += batch.byte_counts[row, :n].tolist()
    assert targets == stream.ids[1:].tolist()
    assert byte_counts == stream.byte_counts[1:].tolist()


@given(*SIZES, st.data())
def test_a_row_is_the_same_in_every_batch(length, seq_len, stride, data):
    rows = Rows(stream_of(length), seq_len, stride)
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    batch = rows.batch(wanted)
    assert len(batch.lengths) == len(wanted)
    for place, row in enumerate(wanted):
        alone = rows.batch([row])
        assert batch.inputs[place].tolist() == alone.inputs[0].tolist()
        assert batch.targets[place].tolist() == alone.targets[0].tolist()


@pytest.mark.parametrize(
    ("length", "seq_len", "stride", "message"),
    [
        (0, 4, 4, "a stream of 0 ids holds no target; at least 2 are needed, give more text"),
        (1, 4, 4, "a stream of 1 ids holds no target; at least 2 are needed, give more text"),
        (9, 0, 4, "seq_len must be >= 1, got 0"),
        (9, 4, 0, "stride must be >= 1, got 0"),
    ],
)
def test_sizes_that_give_no_row_are_refused(length, seq_len, stride, message):
    with pytest.raises(DataError) as caught:
        Rows(stream_of(length), seq_len, stride)
    assert str(caught.value) == message


def test_a_row_out_of_range_is_refused():
    rows = Rows(stream_of(9), 4)
    for index in (-1, len(rows)):
        with pytest.raises(IndexError, match=r"row numbers must be in 0 \.\. 1"):
            rows.batch([0, index])


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
