"""What loss terms and evaluations are means of: one entry a target or a chunk, and the chunks of each document."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import ImpossibleObservationError, PlanPolicy, TokenBatch, V1Config, V2Config
from apelr_model.batch_statistics import chunk_starts, mixture_statistics, read_batch, recognizer_kl

RAGGED = [10, 3, 7, 1, 4, 9]


def separate(batch, documents):
    """The same documents, one a row."""
    pieces = []
    for row, lengths in enumerate(documents):
        start = 0
        for length in lengths:
            pieces.append((batch.inputs[row, start : start + length], batch.targets[row, start : start + length]))
            start += length
    lengths = torch.tensor([len(inputs) for inputs, _ in pieces])
    rows = [torch.nn.utils.rnn.pad_sequence(column, batch_first=True) for column in zip(*pieces, strict=True)]
    return TokenBatch(*rows, lengths.to(rows[0].device))


def test_one_entry_a_target_and_a_chunk(make_model, make_batch):
    model = make_model()
    with torch.no_grad():
        found = read_batch(model, make_batch(RAGGED))
        mixed = mixture_statistics(model, found)
        kl = recognizer_kl(model.planner, found)
    assert found.token_nll.shape == (sum(RAGGED),)
    assert found.hidden.shape == (sum(RAGGED), 7)
    assert found.log_belief.shape == found.log_gate.shape == found.log_belief_after.shape == (sum(RAGGED), 3)
    assert mixed.plan_mi.shape == (sum(RAGGED),)
    assert mixed.chunk_bow.shape == kl.shape == (sum(-(-n // 4) for n in RAGGED),)
    assert (mixed.plan_mi >= -1e-12).all()


@pytest.mark.parametrize("policy", [None, PlanPolicy(force_state=1), PlanPolicy(freeze_after=2)])
def test_targets_are_in_order_and_padding_is_left_out(make_model, make_batch, policy):
    model, batch = make_model(), make_batch([5, 3])
    with torch.no_grad():
        found = read_batch(model, batch, policy=policy)
        row = model.read(batch.inputs[1:, :3], batch.targets[1:, :3], policy=policy)
    torch.testing.assert_close(found.token_nll[5:], -row.filtered.token_log_prob[0])
    torch.testing.assert_close(found.hidden[5:], row.hidden[0])
    torch.testing.assert_close(found.log_gate[5:], row.filtered.log_gate[0])
    torch.testing.assert_close(found.log_belief_after[5:], row.filtered.log_belief_after[0])


def test_an_impossible_target_is_named_and_padding_is_not(make_model, make_batch, version):
    model, batch = make_model(kind=version), make_batch([3, 6])
    batch.targets[batch.targets == 0] = 1
    bias = model.head.plan_vocab_bias if version is V1Config else model.head.bias
    with torch.no_grad():
        bias[:, 0] = -math.inf  # also what padding holds
    batch.targets[0, 3:] = 0
    read_batch(model, batch)
    batch.targets[1, 4] = 0
    message = r"^target 4 of row 1 has probability zero under every plan state: its NLL is infinite$"
    with pytest.raises(ImpossibleObservationError, match=message):
        read_batch(model, batch)


def plain_starts(model, batch):
    """Of one document a row: belief at each chunk's start, and the mean hidden state over its inputs, in lists."""
    size = model.chunks.chunk_size
    found = []
    for row, length in enumerate(batch.lengths.tolist()):
        reading = model.read(batch.inputs[row : row + 1, :length], batch.targets[row : row + 1, :length])
        chunks = []
        for first in range(0, length, size):
            # V2 has entered chunk c before target cL - 1, which input cL - 1 completes; V1 before target cL.
            entered = first - 1 if isinstance(model.config, V2Config) else first
            belief = model.planner.log_initial().double() if first == 0 else reading.filtered.log_belief[0, entered]
            chunks.append((belief, reading.hidden[0, first : min(first + size, length)].mean(0)))
        found.append(chunks)
    return found


@pytest.mark.parametrize("kind", [V1Config, V2Config])
@settings(max_examples=30)
@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=3),
    chunk_size=st.integers(1, 4),
    evidence=st.booleans(),
)
def test_chunk_starts_are_those_of_each_document(make_model, make_batch, kind, documents, chunk_size, evidence):
    model = make_model(kind=kind, chunk_size=chunk_size, boundary_evidence=evidence)
    batch = make_batch([sum(row) for row in documents], documents=documents)
    with torch.no_grad():
        starts = chunk_starts(model, read_batch(model, batch))
        wanted = plain_starts(model, separate(batch, documents))
    assert len(starts.valid) == len(wanted)
    assert starts.valid.sum(-1).tolist() == [len(chunks) for chunks in wanted]
    for document, chunks in enumerate(wanted):
        for chunk, (belief, mean) in enumerate(chunks):
            assert starts.valid[document, chunk]
            torch.testing.assert_close(starts.log_belief[document, chunk], belief, rtol=0, atol=1e-10)
            torch.testing.assert_close(starts.state[document, chunk], belief.exp(), rtol=0, atol=1e-10)
            torch.testing.assert_close(starts.summary[document, chunk], mean, rtol=0, atol=1e-10)


@settings(max_examples=30)
@given(
    documents=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=3), min_size=1, max_size=3),
    chunk_size=st.integers(1, 4),
    data=st.data(),
)
def test_everything_is_as_of_the_separate_documents(make_model, make_batch, documents, chunk_size, data):
    kind = data.draw(st.sampled_from((V1Config, V2Config)))
    model = make_model(kind=kind, chunk_size=chunk_size)
    batch = make_batch([sum(row) for row in documents], documents=documents)
    with torch.no_grad():
        together, apart = read_batch(model, batch), read_batch(model, separate(batch, documents))
        names = ("token_nll", "hidden", "log_belief", "log_gate", "log_belief_after")
        pairs = [(getattr(together, name), getattr(apart, name)) for name in names]
        pairs += zip(mixture_statistics(model, together), mixture_statistics(model, apart), strict=True)
        if kind is V1Config:
            pairs.append((recognizer_kl(model.planner, together), recognizer_kl(model.planner, apart)))
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_committed_starts_are_what_the_chunks_were_filtered_from(make_model, make_batch):
    model = make_model(kind=V2Config, plan_commitment="gumbel_st").train()
    model.planner.hard_fraction = 1.0
    torch.manual_seed(0)
    starts = chunk_starts(model, read_batch(model, make_batch([9, 6])))
    states = starts.state[starts.valid]
    assert bool(((states == 0) | (states == 1)).all())
    assert bool((starts.log_belief[starts.valid].exp() < 1).all())
