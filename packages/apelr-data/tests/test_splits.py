"""Holding out by hash and by position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data.splits import cut_tail, hash_limit, lowest_hash_limit, text_hash

FRACTIONS = st.floats(0.001, 0.999)


def is_held_out(text, fraction):
    return text_hash(text) < hash_limit(fraction)


@given(st.text(), FRACTIONS, FRACTIONS)
def test_a_larger_fraction_only_moves_documents_to_validation(text, one, other):
    small, large = sorted((one, other))
    if is_held_out(text, small):
        assert is_held_out(text, large)


def test_the_hash_is_frozen():
    texts = [f"document {i}" for i in range(20)]
    assert [i for i, text in enumerate(texts) if is_held_out(text, 0.3)] == [7, 11, 15]


def test_the_share_held_out_is_the_one_asked_for():
    held_out = sum(is_held_out(f"document {i}", 0.05) for i in range(20_000))
    assert held_out == pytest.approx(1000, rel=0.1)


@given(st.text("ab \n\r", max_size=200), FRACTIONS)
def test_the_parts_join_to_the_text_and_both_hold_something(text, fraction):
    train, validation = cut_tail(text, fraction)
    assert train + validation == text
    if len(text.rstrip()) > 1 and len(text.strip()) > 1:
        assert train
        assert validation.strip()


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=40, max_size=80), st.floats(0.05, 0.5))
def test_a_text_of_many_lines_is_cut_at_a_line_end_near_the_wanted_place(lines, fraction):
    text = "\n".join(lines) + "\n"
    train, validation = cut_tail(text, fraction)
    assert train.endswith("\n")
    assert abs(len(validation) - fraction * len(text)) <= 12


@pytest.mark.parametrize(
    ("text", "train", "validation"),
    [
        ("one line of some words", "one line of some ", "words"),
        ("oneword", "onewor", "d"),
        ("ab\rcd\ref", "ab\rcd\r", "ef"),
        ("title\n" + "x" * 50 + "\nend", "title\n" + "x" * 50 + "\n", "end"),
        ("title\n" + "word " * 50, "title\n" + "word " * 47, "word " * 3),
        ("x", "x", ""),
        ("", "", ""),
        ("a\nb\n\n\n\n\n\n\n\n\n\n\n\n\n", "a\n", "b\n\n\n\n\n\n\n\n\n\n\n\n\n"),
    ],
)
def test_where_a_text_is_cut(text, train, validation):
    assert cut_tail(text, 0.05) == (train, validation)


@given(st.lists(st.text("ab", max_size=4)), FRACTIONS)
def test_the_lowest_hash_is_held_out_where_no_other_is(texts, fraction):
    hashes = [text_hash(text) for text in texts]
    limit = lowest_hash_limit(hashes, fraction)
    held_out = {text for text in texts if text_hash(text) < limit}
    if any(is_held_out(text, fraction) for text in texts):
        assert held_out == {text for text in texts if is_held_out(text, fraction)}
    elif len(set(texts)) > 1:
        assert held_out == {min(texts, key=text_hash)}
    else:
        assert held_out == set()


def test_no_more_hashes_are_read_than_needed():
    hashes = iter([2**64 - 1, 5, 7])
    assert lowest_hash_limit(hashes, 0.5) == hash_limit(0.5)
    assert list(hashes) == [7]
