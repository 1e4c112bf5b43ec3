"""Chunk boundaries: the tables of both versions, and the two forms of the rule against each other."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apelr_model import ChunkRule


def test_three_steps_with_two_tokens_a_chunk():
    """V1 counts targets (offset 0): 0,1 | 2,3 | 4,5. V2 counts consumed inputs (offset 1): 0 | 1,2 | 3,4."""
    assert ChunkRule(chunk_size=2).index(0, 6) == [0, 0, 1, 1, 2, 2]
    assert ChunkRule(chunk_size=2, offset=1).index(0, 5) == [0, 1, 1, 2, 2]


@given(st.integers(1, 9), st.integers(0, 60))
def test_version_1_table(chunk_size, t):
    rule = ChunkRule(chunk_size=chunk_size)
    assert rule.chunk_of(t) == t // chunk_size
    assert bool(rule.crosses(torch.tensor([t]))) == (t > 0 and t % chunk_size == 0)


@given(st.integers(1, 9), st.integers(0, 60))
def test_version_2_table(chunk_size, t):
    rule = ChunkRule(chunk_size=chunk_size, offset=1)
    assert rule.chunk_of(t) == (t + 1) // chunk_size
    assert bool(rule.crosses(torch.tensor([t]))) == ((t + 1) % chunk_size == 0)


@given(st.integers(1, 20), st.integers(1, 50))
def test_number_of_chunks_of_each_version(chunk_size, steps):
    first = ChunkRule(chunk_size=chunk_size)
    assert first.chunk_of(steps - 1) + 1 == -(-steps // chunk_size)
    second = ChunkRule(chunk_size=chunk_size, offset=1)
    assert second.chunk_of(steps - 1) + 1 == steps // chunk_size + 1


def test_version_2_with_one_token_a_chunk_has_an_empty_first_chunk():
    rule = ChunkRule(chunk_size=1, offset=1)
    assert rule.chunk_of(-1) == 0
    assert rule.index(0, 3) == [1, 2, 3]
    assert rule.crosses(torch.tensor([0, 1, 2])).tolist() == [True, True, True]


@given(st.integers(1, 7), st.integers(0, 1), st.integers(0, 20), st.integers(1, 20))
def test_crosses_says_where_the_index_grows(chunk_size, offset, first, count):
    rule = ChunkRule(chunk_size=chunk_size, offset=offset)
    index = [rule.chunk_of(first - 1), *rule.index(first, count)]
    grows = [b > a for a, b in itertools.pairwise(index)]
    assert rule.crosses(torch.arange(first, first + count)).tolist() == grows


@pytest.mark.parametrize("offset", [0, 1])
def test_before_the_first_target_is_chunk_0(offset):
    assert ChunkRule(chunk_size=3, offset=offset).chunk_of(-1) == 0
