"""Rows of T + 1 and batches of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, Rows, TokenStream

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
        for method in (rows.batch, rows.stream_positions):
            with pytest.raises(IndexError, match=r"row numbers must be in 0 \.\. 1"):
                method([0, index])


@given(st.lists(st.integers(1, 4), min_size=2, max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_positions_count_the_targets_of_a_document(ids, seq_len, stride):
    stream = TokenStream(np.array(ids, np.uint8), np.zeros(len(ids), np.uint8), documents=1, text_bytes=0, unknown=0)
    rows = Rows(stream, seq_len, stride, document_mask=True)
    batch = rows.batch(range(len(rows)))
    assert batch.positions.shape == batch.inputs.shape
    assert batch.positions.dtype == np.int64
    for inputs, positions in zip(batch.inputs, batch.positions, strict=True):
        count = -1
        for token, position in zip(inputs, positions, strict=True):
            count = 0 if token == stream.bos_id else count + 1
            assert position == count


def test_there_are_no_positions_without_a_document_mask():
    assert Rows(stream_of(9), 4).batch([0]).positions is None


@given(*SIZES, st.data())
def test_stream_positions_are_where_the_targets_stand(length, seq_len, stride, data):
    stream = stream_of(length)
    rows = Rows(stream, seq_len, stride)
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    batch, positions = rows.batch(wanted), rows.stream_positions(wanted)
    assert positions.shape == batch.targets.shape
    assert positions.dtype == np.int64
    for row, n in enumerate(batch.lengths):
        assert stream.ids[positions[row, :n]].tolist() == batch.targets[row, :n].tolist()
        assert (positions[row, n:] == -1).all()
        assert (positions[row, :n] >= 1).all()
