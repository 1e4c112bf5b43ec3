"""Chunks with gold labels: beliefs at their ends against scoring each document alone, labels against loops."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apelr_model import (
    ChunkRule,
    LabelledBatch,
    MixtureOfSoftmaxesConfig,
    PlanPolicy,
    V1Config,
    V2Config,
    read_gold_chunks,
    score,
    smooth_plans,
)
from apelr_model.batch_statistics import read_batches
from apelr_model.gold_chunks import chunk_labels

ROWS = [[11], [4, 7], [2], [6, 1, 3]]


def documents(lengths=ROWS):
    """(row, first target, length) of each document."""
    return [(row, sum(of_row[:i]), of_row[i]) for row, of_row in enumerate(lengths) for i in range(len(of_row))]


@pytest.fixture(params=[(V1Config, 4), (V2Config, 4), (V2Config, 1), (V1Config, 20)])
def model(request, make_model):
    kind, chunk_size = request.param
    return make_model(kind=kind, chunk_size=chunk_size)


@pytest.fixture
def batch(make_batch):
    return make_batch([sum(row) for row in ROWS], documents=ROWS, width=11)


def labels_for(batch, seed=0):
    return torch.randint(-1, 4, batch.targets.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("policy", [None, PlanPolicy(freeze_after=5)])
def test_beliefs_and_labels_are_those_of_each_document_scored_alone(model, batch, policy):
    labels = labels_for(batch)
    found = read_gold_chunks(model, [LabelledBatch(batch, labels)], policy=policy)
    seen = torch.zeros_like(found.labels, dtype=torch.bool)
    for row, first, length in documents():
        ids = [int(batch.inputs[row, first]), *batch.targets[row, first : first + length].tolist()]
        alone = score(model, ids, policy=policy, with_trellis=True)
        smoothed = smooth_plans(alone.trellis).log_posterior[0].cpu()
        runs = alone.trellis.segments.number[0].tolist()
        head = next(run for run in range(found.labels.shape[1]) if not seen[row, run] and found.document[row, run] >= 0)
        for run in sorted(set(runs)):
            column = head + run - min(runs)
            seen[row, column] = True
            inside = [first + t for t in range(length) if runs[t] == run]
            after = alone.trellis.log_after[0, run].cpu()
            torch.testing.assert_close(found.log_filtered[row, column], after, rtol=0, atol=1e-10)
            torch.testing.assert_close(found.log_smoothed[row, column], smoothed[run], rtol=0, atol=1e-10)
            votes = Counter(label for label in labels[row, inside].tolist() if label >= 0)
            wanted = min(votes, key=lambda label: (-votes[label], label)) if votes else -1
            assert int(found.labels[row, column]) == wanted
        same = found.document[row, head : head + len(set(runs))]
        assert len(set(same.tolist())) == 1
    assert torch.equal(seen, found.document >= 0)
    for row, lengths in enumerate(ROWS):
        chunks = model.chunks.index(0, lengths[-1] + 1)
        complete = policy is None and chunks[-1] > chunks[-2]
        wanted = found.labels[row] >= 0
        if policy is None and not complete and int(seen[row].sum()) > 1:
            wanted[int(seen[row].nonzero().max())] = False
        if policy is None:
            assert torch.equal(found.compared[row], wanted)
    numbers = {(row, int(d)) for row in range(len(ROWS)) for d in found.document[row] if d >= 0}
    assert len(numbers) == len(documents())


@given(st.lists(st.lists(st.integers(-1, 5), min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 10))
def test_a_chunks_label_is_the_most_frequent_one_and_the_smallest_of_equals(rows, chunk_size):
    segments = ChunkRule(chunk_size=chunk_size).segments(range(9))
    found = chunk_labels(torch.tensor(rows), segments)
    for row, ours in zip(rows, found.tolist(), strict=True):
        for run, label in enumerate(ours):
            votes = Counter(x for x in row[run * chunk_size : (run + 1) * chunk_size] if x >= 0)
            assert label == (min(votes, key=lambda x: (-votes[x], x)) if votes else -1)


def test_batches_of_several_widths_are_one_set(make_model, make_batch):
    model = make_model()
    parts = [make_batch([9, 3], seed=1), make_batch([14], seed=2), make_batch([2], seed=3)]
    labelled = [LabelledBatch(part, labels_for(part, seed)) for seed, part in enumerate(parts)]
    found = read_gold_chunks(model, labelled)
    assert found.labels.shape == (4, 4)
    assert (found.document >= 0).sum(1).tolist() == [3, 1, 4, 1]
    assert bool((found.labels[found.document < 0] == -1).all())
    assert bool((found.log_filtered[found.document < 0] == -torch.inf).all())
    alone = read_gold_chunks(model, labelled[1:2])
    torch.testing.assert_close(found.log_filtered[2], alone.log_filtered[0], rtol=0, atol=1e-12)
    assert torch.equal(found.rows(2, 3).labels, alone.labels)


def test_rows_can_be_put_in_the_order_of_the_text(make_model, make_batch):
    model = make_model()
    parts = [make_batch([9, 5], seed=1), make_batch([14], seed=2)]
    found = read_gold_chunks(model, [LabelledBatch(part, labels_for(part, seed)) for seed, part in enumerate(parts)])
    ordered = found.sorted_by([7, 40, 8])
    for name in ("log_filtered", "log_smoothed", "labels", "document", "compared"):
        assert torch.equal(getattr(ordered, name), getattr(found, name)[[0, 2, 1]])
    assert torch.equal(ordered.log_transition, found.log_transition)


@pytest.mark.parametrize("kind", [V1Config, V2Config])
def test_beliefs_of_rows_that_go_on_go_on(make_model, make_batch, kind):
    """The rows of a second batch begin where those of the first one ended, in the middle of a chunk; a third is new."""
    model = make_model(kind=kind, chunk_size=4)
    parts = [make_batch([6, 10], seed=1), make_batch([9, 8], seed=2), make_batch([7, 3], seed=3)]
    parts = [
        part._replace(continues=torch.full((2,), going_on, device=part.inputs.device))
        for part, going_on in zip(parts, (False, True, False), strict=True)
    ]
    found = read_gold_chunks(model, [LabelledBatch(part, labels_for(part)) for part in parts])
    alone = read_gold_chunks(model, [LabelledBatch(part._replace(continues=None), labels_for(part)) for part in parts])
    for number, statistics in enumerate(read_batches(model, parts)):
        after, runs = statistics.reading.filtered.log_belief_after, statistics.reading.segments.number
        for b, length in enumerate(parts[number].lengths.tolist()):
            row = 2 * number + b
            own = runs[min(b, len(runs) - 1), :length].tolist()
            for run in sorted(set(own)):
                last = length - 1 - own[::-1].index(run)
                torch.testing.assert_close(found.log_filtered[row, run], after[b, last].cpu(), rtol=0, atol=1e-10)
            fresh = torch.equal(found.log_filtered[row, own[-1]], alone.log_filtered[row, own[-1]])
            assert fresh is (number != 1)
            # Of the last chunk nothing more is known in the end than after its last target.
            ended = (found.log_smoothed[row, own[-1]], found.log_filtered[row, own[-1]])
            torch.testing.assert_close(*ended, rtol=0, atol=1e-10)


def test_mode_and_random_state_are_left_alone(make_model, make_batch):
    model, batch = make_model(dropout=0.5).train(), make_batch([9, 3])
    before = torch.get_rng_state()
    first = read_gold_chunks(model, [LabelledBatch(batch, labels_for(batch))])
    again = read_gold_chunks(model, [LabelledBatch(batch, labels_for(batch))])
    assert torch.equal(first.log_smoothed, again.log_smoothed)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_refusals(make_model, make_batch):
    batch = make_batch([5])
    none = torch.full((1, 5), -1)
    with pytest.raises(ValueError, match=r"^mixture_of_softmaxes has no chain of plans to compare with known ones$"):
        read_gold_chunks(make_model(kind=MixtureOfSoftmaxesConfig), [LabelledBatch(batch, none)])
    for batches in ([], [LabelledBatch(batch, none)]):
        with pytest.raises(ValueError, match=r"^no chunk of the text has a known plan to compare with$"):
            read_gold_chunks(make_model(), batches)
    for wrong in (torch.zeros(5, dtype=torch.long), torch.zeros(1, 5), torch.full((1, 5), -2)):
        with pytest.raises(ValueError, match=r"^labels must be \[1, 5\] whole numbers, -1 for none"):
            read_gold_chunks(make_model(), [LabelledBatch(batch, wrong)])
