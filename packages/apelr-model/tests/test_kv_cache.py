"""The cache's columns: written in place where nobody else looks, doubled, copied, dropped, and moved over padding."""

import pytest
import torch

from apelr_model.kv_cache import KVBuffer, KVCache


@pytest.fixture
def columns(device):
    """Columns whose every number is the column's own: keys, and values ten times as large."""

    def make(begin, end, rows=2):
        numbers = torch.arange(begin, end, device=device, dtype=torch.float64).view(1, 1, -1, 1).repeat(rows, 2, 1, 3)
        return numbers, 10 * numbers

    return make


def numbers(buffer, row=0):
    assert torch.equal(buffer.values, 10 * buffer.keys)
    return [int(n) for n in buffer.keys[row, 0, :, 0]]


@torch.no_grad()
def test_steps_write_in_place_and_room_doubles(columns):
    buffer, places = KVBuffer(*columns(0, 3)), set()
    for n in range(3, 99):
        buffer = buffer.extended(n, *columns(n, n + 1), spare=True)
        places.add(buffer.keys.data_ptr())
        assert buffer.keys.shape[2] <= 2 * (n + 1)
    assert numbers(buffer.part(0, 99)) == list(range(99))
    assert len(places) <= 6


@torch.no_grad()
def test_a_second_continuation_is_written_elsewhere(columns):
    start = KVBuffer(*columns(0, 3)).extended(3, *columns(3, 4), spare=True)
    one = start.extended(4, *columns(50, 51), spare=True)
    other = start.extended(4, *columns(60, 61), spare=True)
    assert one.keys.data_ptr() == start.keys.data_ptr() != other.keys.data_ptr()
    assert numbers(one.part(0, 5)) == [0, 1, 2, 3, 50]
    assert numbers(other.part(0, 5)) == [0, 1, 2, 3, 60]


@pytest.mark.parametrize(("tracked", "spare"), [(True, True), (True, False), (False, False)])
def test_under_autograd_and_without_spare_room_columns_are_copied(columns, tracked, spare):
    with torch.set_grad_enabled(tracked):
        buffer = KVBuffer(*columns(0, 3))
        longer = buffer.extended(3, *columns(3, 5), spare=spare)
    assert longer.keys.shape[2] == longer.written == 5
    assert numbers(buffer) == [0, 1, 2]
    assert numbers(longer) == [0, 1, 2, 3, 4]


@torch.no_grad()
def test_numbers_of_another_precision_are_not_rounded_into_place(columns):
    low = KVBuffer(*(part.bfloat16() for part in columns(0, 4)))
    low = low.extended(4, *(part.bfloat16() for part in columns(4, 5)), spare=True)
    mixed = low.extended(5, *columns(257, 258), spare=True)
    assert mixed.keys.dtype == torch.float64
    assert numbers(mixed.part(0, 6)) == [0, 1, 2, 3, 4, 257]


def test_padding_is_squeezed_out_and_the_first_column_moves(columns, device):
    cache = KVCache(
        buffers=(KVBuffer(*columns(0, 5)),),
        columns=5,
        position=torch.tensor([5, 3], device=device),
        padding=torch.tensor([0, 2], device=device),
    )
    ready = cache.newest(None)
    assert (ready.columns, ready.padding, ready.first.tolist()) == (5, None, [0, 2])
    assert numbers(ready.buffers[0], row=0) == [0, 1, 2, 3, 4]
    assert numbers(ready.buffers[0], row=1)[2:] == [0, 1, 2]
    newest = cache.newest(3)
    assert (newest.columns, newest.first.tolist()) == (3, [0, 0])
    assert (numbers(newest.buffers[0], row=0), numbers(newest.buffers[0], row=1)) == ([2, 3, 4], [0, 1, 2])
    two = cache.select_rows(torch.tensor([1, 1], device=device)).newest(4)
    assert (two.first.tolist(), two.position.tolist()) == ([1, 1], [3, 3])
    assert numbers(two.buffers[0])[1:] == [0, 1, 2]


def test_columns_that_no_row_sees_are_dropped(columns, device):
    cache = KVCache(
        buffers=(KVBuffer(*columns(0, 6)),),
        columns=6,
        position=torch.tensor([6], device=device),
        first=torch.tensor([4, 3], device=device),
    )
    dropped = cache.without_unseen()
    assert (dropped.columns, dropped.first.tolist(), numbers(dropped.buffers[0])) == (3, [1, 0], [3, 4, 5])
    assert dropped.without_unseen() is dropped
    assert cache.num_bytes() == dropped.num_bytes() == 2 * dropped.copied().num_bytes()
