"""The planted source: what its tables are made of, and that its texts follow them."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, PlantedConfig, PlantedSource


def source_of(seed=0, **settings):
    return PlantedSource(PlantedConfig(**settings), seed=seed)


@given(
    st.integers(1, 5),
    st.integers(2, 9),
    st.sampled_from([0.0, 0.3, 0.99]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1e-6, 0.1, 1e6]),
    st.integers(0, 2**63 - 1),
)
def test_tables_are_probabilities_of_the_shapes_they_say(plans, symbols, stays, overlap, concentration, seed):
    tables = source_of(
        seed,
        num_plans=plans,
        vocab_size=symbols,
        self_transition=stays,
        overlap=overlap,
        concentration=concentration,
    ).tables
    assert tables.initial.shape == (plans,)
    assert tables.transition.shape == (plans, plans)
    assert tables.emission.shape == (plans, symbols + 1, symbols)
    for array in (tables.initial, tables.transition, tables.emission):
        assert (array >= 0).all()
        assert array.sum(axis=-1) == pytest.approx(np.ones(array.shape[:-1]), abs=1e-12)
    if plans > 1:
        assert np.diag(tables.transition) == pytest.approx(np.full(plans, stays))
    if plans > 2:
        others = tables.transition[~np.eye(plans, dtype=bool)]
        assert len(set(others.tolist())) == len(others)


def test_overlap_mixes_a_shared_table_with_each_plans_own():
    own, shared, mixed = (source_of(7, overlap=overlap).tables.emission for overlap in (0.0, 1.0, 0.25))
    assert mixed == pytest.approx(0.25 * shared + 0.75 * own, abs=1e-12)
    assert all(np.array_equal(shared[0], table) for table in shared)
    assert len({table.tobytes() for table in own}) == len(own)
    assert not np.allclose(own[0][-1], own[0][0])  # BOS has a row of its own


def test_more_plans_leave_the_tables_of_the_first_ones():
    few, many = source_of(3, num_plans=4).tables, source_of(3, num_plans=8).tables
    assert np.array_equal(few.emission, many.emission[:4])


def test_a_small_concentration_makes_peaked_rows():
    peaks = [source_of(concentration=c, overlap=0.0).tables.emission.max(axis=2).mean() for c in (0.1, 1.0, 100.0)]
    assert peaks[0] > 0.2 > peaks[1] > 0.05 > peaks[2]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("size", [1, 5, 16])
def test_the_plan_changes_only_between_chunks_of_the_document(size, offset):
    source = source_of(chunk_size=size, chunk_offset=offset, self_transition=0.3, train_tokens=3000)
    symbols, plans = source.stream("train")
    assert symbols.shape == plans.shape == (3000,)
    assert symbols.dtype == plans.dtype == np.int64
    changes = np.flatnonzero(np.diff(plans)) + 1
    assert len(changes) > 100
    assert ((changes + offset) % size == 0).all()


def test_plans_and_symbols_are_drawn_from_the_tables():
    source = source_of(num_plans=3, vocab_size=4, chunk_size=2, chunk_offset=0, concentration=1.0, self_transition=0.5)
    symbols, plans = source.stream("train")
    per_chunk = plans[::2]
    moves = np.zeros((3, 3))
    np.add.at(moves, (per_chunk[:-1], per_chunk[1:]), 1)
    assert moves / moves.sum(axis=1, keepdims=True) == pytest.approx(source.tables.transition, abs=0.015)
    assert np.bincount(plans, minlength=3) / len(plans) == pytest.approx(source.tables.initial, abs=0.015)
    pairs = np.zeros((3, 4, 4))
    np.add.at(pairs, (plans[1:], symbols[:-1], symbols[1:]), 1)
    assert pairs / pairs.sum(axis=2, keepdims=True) == pytest.approx(source.tables.emission[:, :4], abs=0.03)


def test_the_first_plan_and_symbol_follow_the_beginning_of_a_document():
    sources = [source_of(seed, vocab_size=3, table_seed=1, train_tokens=1, concentration=1.0) for seed in range(2000)]
    tables = sources[0].tables
    firsts = [source.stream("train") for source in sources]
    plans = np.bincount([int(first.plans[0]) for first in firsts], minlength=4) / len(firsts)
    assert plans == pytest.approx(tables.initial, abs=0.04)
    symbols = np.bincount([int(first.symbols[0]) for first in firsts], minlength=3) / len(firsts)
    assert symbols == pytest.approx(tables.initial @ tables.emission[:, -1], abs=0.04)


def test_the_true_belief_finds_the_plans_and_beats_the_restarted_one():
    source = source_of(1, train_tokens=20_000)
    symbols, plans = source.stream("train")
    carried, restarted = source.tables.filter(symbols), source.tables.filter(symbols, row_length=64)
    assert (carried.log_beliefs.argmax(axis=1) == plans).mean() > 0.95
    assert carried.nll < restarted.nll < source_of(1, overlap=1.0).tables.filter(symbols).nll


def test_splits_and_seeds_give_other_texts_and_a_longer_text_begins_with_the_shorter():
    def digest(seed, split, **settings):
        return hashlib.sha256(source_of(seed, val_tokens=500, **settings).stream(split).symbols[:500]).hexdigest()

    assert digest(0, "train") == digest(0, "train") == digest(0, "train", train_tokens=700)
    assert len({digest(seed, split) for seed in (0, 1, 2**32, 2**62) for split in ("train", "validation")}) == 8


def test_a_table_seed_keeps_the_tables_and_the_runs_seed_draws_the_texts():
    first, second = (source_of(seed, table_seed=5) for seed in (0, 1))
    assert np.array_equal(first.tables.emission, second.tables.emission)
    assert np.array_equal(first.tables.transition, second.tables.transition)
    assert not np.array_equal(first.stream("validation").symbols, second.stream("validation").symbols)
    assert np.array_equal(first.tables.emission, source_of(5).tables.emission)
    assert not np.array_equal(source_of(0).tables.emission, source_of(1).tables.emission)


def test_another_split_is_refused():
    with pytest.raises(DataError, match=r"^split must be one of train, validation, got 'test'$"):
        source_of().stream("test")


SCRIPT = """
import hashlib
from apelr_data import PlantedConfig, PlantedSource
source = PlantedSource(PlantedConfig(train_tokens=2000), seed=11)
parts = [source.tables.emission, source.tables.transition, *source.stream("train"), *source.stream("validation")]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_it_is_the_same_in_every_process(run_python):
    found = [run_python(SCRIPT, PYTHONHASHSEED=seed) for seed in ("0", "1")]
    assert [each.returncode for each in found] == [0, 0], found[0].stderr
    assert len({each.stdout for each in found}) == 1
