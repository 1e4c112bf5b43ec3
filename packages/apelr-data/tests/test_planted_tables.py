"""The exact filter over planted plans, against the sum over all plan paths."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, PlantedConfig, PlantedSource, PlantedTables
from apelr_data.planted_tables import stationary_distribution


def tables_of(plans=2, symbols=3, size=2, offset=0, seed=0, **settings):
    config = PlantedConfig(num_plans=plans, vocab_size=symbols, chunk_size=size, chunk_offset=offset, **settings)
    return PlantedSource(config, seed=seed).tables


def path_sums(tables, symbols, first, last):
    """Sum over all plan paths of symbols `first` … `last` - 1, the plan starting afresh at `first`, by last plan.

    Boundaries and emissions are written out from the definitions: nothing of the filter is used.
    """
    plans, bos = len(tables.initial), tables.emission.shape[2]
    chunk_of = [(t + tables.chunk_offset) // tables.chunk_size for t in range(first, last)]
    chunks = sorted(set(chunk_of))
    totals = [0.0] * plans
    for path in itertools.product(range(plans), repeat=len(chunks)):
        weight = tables.initial[path[0]]
        for here, following in itertools.pairwise(path):
            weight *= tables.transition[here, following]
        for t in range(first, last):
            before = symbols[t - 1] if t else bos
            weight *= tables.emission[path[chunks.index(chunk_of[t - first])], before, symbols[t]]
        totals[path[-1]] += weight
    return np.array(totals)


SOURCES = {
    "plans": st.integers(1, 3),
    "symbols": st.integers(2, 4),
    "size": st.integers(1, 4),
    "offset": st.integers(0, 1),
    "seed": st.integers(0, 99),
    "self_transition": st.sampled_from([0.0, 0.5, 0.9, 0.999999]),
    "overlap": st.sampled_from([0.0, 0.5, 1.0]),
    "concentration": st.sampled_from([0.5, 2.0]),
}


@given(st.fixed_dictionaries(SOURCES), st.data())
def test_it_is_the_sum_over_all_plan_paths(source, data):
    tables = tables_of(**source)
    most = 4 * source["size"]  # at most 5 chunks
    symbols = data.draw(st.lists(st.integers(0, source["symbols"] - 1), min_size=1, max_size=most))
    row_length = data.draw(st.none() | st.integers(1, most))
    found = tables.filter(np.array(symbols), row_length=row_length)
    for t in range(len(symbols)):
        first = t - t % row_length if row_length else 0
        after = path_sums(tables, symbols, first, t + 1)
        before = path_sums(tables, symbols, first, t).sum() if t > first else 1.0
        assert found.log_probs[t] == pytest.approx(math.log(after.sum() / before), abs=1e-10)
        assert np.exp(found.log_beliefs[t]) == pytest.approx(after / after.sum(), abs=1e-10)
        emission = np.exp(tables.log_emissions(np.array(symbols))[t])
        assert np.exp(found.log_priors[t]) * emission == pytest.approx(after / before, abs=1e-10)
        assert np.exp(found.log_priors[t]).sum() == pytest.approx(1, abs=1e-10)
    assert found.nll == pytest.approx(-found.log_probs.sum() / len(symbols))


def test_probabilities_of_all_texts_of_a_length_sum_to_one():
    tables = tables_of(plans=3, symbols=3, size=2, offset=1)
    texts = itertools.product(range(3), repeat=5)
    assert sum(math.exp(tables.filter(np.array(text)).log_probs.sum()) for text in texts) == pytest.approx(1)


def test_chunks_are_those_of_both_versions():
    assert tables_of(size=2, offset=0).chunks(6).tolist() == [0, 0, 1, 1, 2, 2]
    assert tables_of(size=2, offset=1).chunks(6).tolist() == [0, 1, 1, 2, 2, 3]
    assert tables_of(size=1, offset=1).chunks(3).tolist() == [1, 2, 3]


def test_log_emissions_are_looked_up_in_the_tables():
    tables = tables_of(plans=3, symbols=4)
    found = tables.log_emissions(np.array([2, 0, 3], dtype=np.uint8))
    expected = [[tables.emission[plan, x, y] for plan in range(3)] for x, y in ((4, 2), (2, 0), (0, 3))]
    assert np.exp(found) == pytest.approx(np.array(expected), rel=1e-12)
    assert tables.log_emissions(np.empty(0, dtype=np.int64)).shape == (0, 3)


def test_it_stays_exact_in_long_chunks_with_large_gaps():
    emission = np.array([[[1 - 1e-40, 1e-40]] * 3, [[1e-40, 1 - 1e-40]] * 3])
    start, transition = np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.1, 0.9]])
    tables = PlantedTables(initial=start, transition=transition, emission=emission, chunk_size=10_000)
    found = tables.filter(np.repeat([0, 1, 0], 10_000))
    assert np.isfinite(found.log_probs).all()
    assert found.log_probs[[0, 10_000, 20_000]] == pytest.approx(np.log([0.5, 0.1, 0.1]), abs=1e-9)
    inside = np.delete(found.log_probs, [0, 10_000, 20_000])
    assert inside == pytest.approx(np.zeros(len(inside)), abs=1e-9)


def impossible():
    never = np.array([[[1.0, 0.0]] * 3, [[0.5, 0.5]] * 3])
    start, transition = np.array([1.0, 0.0]), np.eye(2)
    return PlantedTables(initial=start, transition=transition, emission=never, chunk_size=2)


def test_a_plan_that_cannot_be_has_no_belief_and_a_symbol_that_cannot_be_is_an_error():
    found = impossible().filter(np.array([0, 0, 0]))
    assert found.log_probs.tolist() == [0.0, 0.0, 0.0]
    assert np.exp(found.log_beliefs).tolist() == [[1.0, 0.0]] * 3
    with pytest.raises(DataError, match=r"^symbol 1 at position 2 is impossible under every plan$"):
        impossible().filter(np.array([0, 0, 1, 0]))


@pytest.mark.parametrize(
    ("symbols", "row_length", "message"),
    [
        ([0, 3], None, "symbols must be in 0 .. 2, got 0 .. 3"),
        ([-1, 1], None, "symbols must be in 0 .. 2, got -1 .. 1"),
        ([0.0, 1.0], None, "symbols must be one row of integers, got float64 of shape (2,)"),
        ([[0, 1]], None, "symbols must be one row of integers, got int64 of shape (1, 2)"),
        ([0, 1], 0, "symbols and row_length must be at least 1, got 2 and 0"),
        (np.empty(0, dtype=np.int64), None, "symbols and row_length must be at least 1, got 0 and None"),
    ],
)
def test_what_is_no_text_of_the_source_is_refused(symbols, row_length, message):
    with pytest.raises(DataError) as caught:
        tables_of().filter(np.array(symbols), row_length=row_length)
    assert str(caught.value) == message


@given(st.integers(1, 12), st.integers(0, 99), st.sampled_from([0.0, 0.5, 1 - 1e-9]))
def test_the_stationary_distribution_stays_the_same(plans, seed, stays):
    transition = tables_of(plans=plans, seed=seed, self_transition=stays).transition
    found = stationary_distribution(transition)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found > 0).all()
    moves = found[:, None] * transition * ~np.eye(plans, dtype=bool)
    assert moves.sum(axis=0) == pytest.approx(moves.sum(axis=1), rel=1e-12)  # as much comes as goes
