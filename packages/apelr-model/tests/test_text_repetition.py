"""Repetition of texts: counts by hand and by another way of counting."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_model import text_repetition


def test_counts_by_hand():
    found = text_repetition([[1, 2, 1, 2, 1], [1, 2, 3], [7]])
    # unigrams: {1 2 3 7} of 9; bigrams: {12 21 23} of 4 + 2; trigrams: {121 212 123} of 3 + 1; of four: {1212 2121}.
    assert found.distinct == (pytest.approx(4 / 9), pytest.approx(3 / 6), pytest.approx(3 / 4), pytest.approx(1.0))
    # Within each text: 1 - 2/5, 1 - 3/3, 1 - 1/1; then 1 - 2/4 and 0; then 1 - 2/3 and 0; then 0.
    assert found.repeated == (
        pytest.approx(0.6 / 3),
        pytest.approx(0.5 / 2),
        pytest.approx(1 / 6),
        pytest.approx(0.0),
    )


def test_texts_that_are_alike_repeat_nothing_within_themselves():
    found = text_repetition([[1, 2, 3, 4, 5]] * 10)
    assert found.repeated == (0, 0, 0, 0)
    assert found.distinct == pytest.approx((0.1, 0.1, 0.1, 0.1))


def test_no_text_of_the_length():
    assert text_repetition([]) == ((None,) * 4, (None,) * 4)
    assert text_repetition([[], [3, 3]]) == ((0.5, 1.0, None, None), (0.5, 0.0, None, None))


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5))
def test_by_counting_occurrences(texts):
    found = text_repetition(texts)
    for n in range(1, 5):
        counts = [Counter(zip(*(text[i:] for i in range(n)), strict=False)) for text in texts]
        whole = sum(counts, Counter())
        if not whole:
            assert found.distinct[n - 1] is found.repeated[n - 1] is None
            continue
        assert found.distinct[n - 1] == pytest.approx(len(whole) / whole.total())
        again = [sum(c - 1 for c in of_text.values()) / of_text.total() for of_text in counts if of_text]
        assert found.repeated[n - 1] == pytest.approx(sum(again) / len(again))
