"""The contrastive term against a reference with a loop over anchors, candidates and distances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import slices
from apelr_model.future_contrast import future_contrastive

K, D = 3, 5


def problem(batch, chunks, seed=0, dtype=torch.float64):
    """states [B, C, K] float64, plan_embeddings [K, D], summaries [B, C, D]."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, chunks, K, generator=generator, dtype=torch.float64).softmax(-1)
    embeddings = torch.randn(K, D, generator=generator, dtype=torch.float64).to(dtype)
    summaries = torch.randn(batch, chunks, D, generator=generator, dtype=torch.float64).to(dtype)
    return [x.requires_grad_() for x in (states, embeddings, summaries)]


def plain(states, embeddings, summaries, horizon, temperature, valid):
    batch, chunks, _ = states.shape

    def unit(vector):
        return vector / vector.norm()

    by_distance = []
    for d in range(1, horizon + 1):
        candidates = [(b, c) for b in range(batch) for c in range(d, chunks) if valid[b, c]]
        terms = []
        for b in range(batch):
            for c in range(chunks - d):
                if not (valid[b, c] and valid[b, c + d]):
                    continue
                anchor = unit(sum(states[b, c, k] * embeddings[k] for k in range(K)))
                scores = {x: torch.dot(anchor, unit(summaries[x])) / temperature for x in candidates}
                terms.append(-(scores[b, c + d] - torch.stack(list(scores.values())).logsumexp(0)))
        if terms:
            by_distance.append(sum(terms) / len(terms))
    return sum(by_distance) / len(by_distance) if by_distance else torch.zeros((), dtype=torch.float64)


def check(leaves, horizon, temperature, valid):
    found = future_contrastive(*leaves, horizon=horizon, temperature=temperature, valid=valid)
    wanted = plain(*leaves, horizon, temperature, valid)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    if wanted.requires_grad:
        for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 6), st.floats(0.1, 2), st.integers(0, 2**32))
def test_values_and_gradients_are_the_references(lengths, horizon, temperature, seed):
    valid = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    check(problem(len(lengths), max(lengths), seed), horizon, temperature, valid)


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(2, 5), st.integers(1, 4), st.integers(0, 2**32))
def test_any_chunks_may_be_left_out(batch, chunks, horizon, seed):
    """A later chunk is a candidate even where no earlier one of its row is an anchor."""
    valid = torch.rand(batch, chunks, generator=torch.Generator().manual_seed(seed)) < 0.7
    check(problem(batch, chunks, seed), horizon, 0.5, valid)


def test_without_a_mask_every_chunk_counts():
    leaves = problem(3, 4)
    found = future_contrastive(*leaves, horizon=2, temperature=0.5)
    torch.testing.assert_close(found, plain(*leaves, 2, 0.5, torch.ones(3, 4, dtype=torch.bool)), rtol=0, atol=1e-10)


def test_padded_chunks_do_not_matter():
    states, embeddings, summaries = problem(2, 4)
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    found = future_contrastive(states, embeddings, summaries, horizon=3, temperature=1.0, valid=valid)
    other = summaries.detach().clone()
    other[1, 2:] = 100.0
    torch.testing.assert_close(
        found, future_contrastive(states, embeddings, other, horizon=3, temperature=1.0, valid=valid), rtol=0, atol=0
    )


def test_one_chunk_has_no_future_and_gives_0():
    leaves = problem(4, 1)
    found = future_contrastive(*leaves, horizon=3, temperature=1.0)
    assert found.item() == 0
    (leaves[2].sum() + found).backward()  # a part of a total that has a gradient


def test_a_single_candidate_gives_0_and_counts_as_a_distance():
    """One row of two chunks: the only candidate is the positive."""
    leaves = problem(1, 2)
    found = future_contrastive(*leaves, horizon=1, temperature=1.0)
    assert found.item() == pytest.approx(0, abs=1e-12)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found, leaves))


def test_slices_of_anchors_change_nothing(monkeypatch):
    leaves = problem(3, 5)
    whole = future_contrastive(*leaves, horizon=4, temperature=0.3)
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 20)
    monkeypatch.setattr(slices, "SLICE_TOKENS", 1)
    torch.testing.assert_close(future_contrastive(*leaves, horizon=4, temperature=0.3), whole, rtol=0, atol=1e-12)


def test_under_autocast_it_is_computed_in_float32():
    leaves = problem(3, 5, dtype=torch.float32)
    exact = future_contrastive(*leaves, horizon=2, temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = future_contrastive(leaves[0], leaves[1], leaves[2].bfloat16(), horizon=2, temperature=0.1)
        wanted = future_contrastive(leaves[0], leaves[1], leaves[2].bfloat16().float(), horizon=2, temperature=0.1)
    assert found.dtype == exact.dtype == torch.float32
    assert found == wanted


def test_descending_it_brings_states_nearer_to_their_own_future():
    states, embeddings, summaries = problem(4, 6)
    before = future_contrastive(states, embeddings, summaries, horizon=2, temperature=0.5)
    assert before > 0.5 * math.log(16)
    (gradient,) = torch.autograd.grad(before, summaries)
    after = future_contrastive(states, embeddings, summaries - 0.1 * gradient, horizon=2, temperature=0.5)
    assert after < before
