"""Rows of ids: what is padding, positions in documents, splitting and moving."""

import pytest
import torch

from apelr_model import TokenBatch

RAGGED = [10, 3, 7, 1, 4, 9]


def test_padding_is_everything_from_a_rows_length_on(make_batch):
    valid = make_batch([3, 1], width=4).valid
    assert valid.tolist() == [[True, True, True, False], [True, False, False, False]]


def test_positions_count_from_the_rows_start_unless_given(make_batch):
    assert make_batch([3, 1]).clock.tolist() == [[0, 1, 2]]
    assert make_batch([5, 3], documents=[[2, 3], [1, 2]]).clock.tolist() == [[0, 1, 0, 1, 2], [0, 0, 1, 2, 3]]


@pytest.mark.parametrize("documents", [None, [[4, 6], [3], [7], [1], [2, 2], [9]]])
def test_split_keeps_all_rows_in_order(make_batch, documents):
    batch = make_batch(RAGGED, documents=documents)
    parts = list(batch.split(4))
    assert [len(part.lengths) for part in parts] == [2, 2, 1, 1]
    for whole, pieces in zip(batch, zip(*parts, strict=True), strict=True):
        if whole is None:
            assert pieces == (None,) * 4
        else:
            assert torch.equal(whole, torch.cat(pieces))


def test_more_parts_than_rows_are_refused(make_batch):
    with pytest.raises(ValueError, match=r"^cannot split 2 rows into 3 parts$"):
        list(make_batch([4, 4]).split(3))


@pytest.mark.parametrize("documents", [None, [[1, 2], [2]]])
def test_to_moves_everything(make_batch, documents):
    batch = make_batch([3, 2], documents=documents)
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, TokenBatch)
    assert [x.device.type for x in moved if x is not None] == ["meta"] * (3 if documents is None else 4)
    assert (moved.positions is None) == (documents is None)
