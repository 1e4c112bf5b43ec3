"""Each loss term against a plain reference written from its formula; signs are tested in test_objective.py."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apelr_model.losses import belief_entropy, chunk_cross_entropy, kl_to_uniform, state_persistence, symmetric_kl


def rows(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log().log_softmax(-1)


def plain_entropy(probabilities):
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def plain_kl(first, second):
    return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True) if p > 0)


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_entropy_and_kl_to_uniform(states, seed):
    log_belief = rows(seed, 4, states)
    for found, log_p in zip(belief_entropy(log_belief).tolist(), log_belief, strict=True):
        assert found == pytest.approx(plain_entropy(log_p.exp().tolist()), abs=1e-12)
        uniform = [1 / states] * states
        assert kl_to_uniform(log_p.exp()).item() == pytest.approx(plain_kl(log_p.exp().tolist(), uniform), abs=1e-12)


def test_kl_to_uniform_runs_from_0_to_log_k():
    assert kl_to_uniform(torch.full((4,), 0.25)).item() == pytest.approx(0, abs=1e-6)
    assert kl_to_uniform(torch.tensor([0.0, 1.0, 0.0, 0.0])).item() == pytest.approx(math.log(4))


def test_impossible_states_count_nothing_and_leave_gradients_finite():
    log_belief = torch.tensor([[0.0, -math.inf], [math.log(0.5), math.log(0.5)]], requires_grad=True)
    entropy = belief_entropy(log_belief)
    assert entropy.tolist() == pytest.approx([0.0, math.log(2)])
    entropy.sum().backward()
    assert torch.isfinite(log_belief.grad).all()


def test_a_plan_that_is_never_used_leaves_the_usage_gradient_finite():
    log_belief = torch.tensor([[0.0, -800.0], [-0.1, -900.0]], dtype=torch.float64, requires_grad=True)
    usage = kl_to_uniform(log_belief.exp().mean(0))
    assert torch.isfinite(usage)
    usage.backward()
    assert torch.isfinite(log_belief.grad).all()


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_symmetric_kl_is_half_the_sum_of_both_directions(states, seed):
    log_p, log_q = rows(seed, 3, states), rows(seed + 1, 3, states)
    for found, p, q in zip(
        symmetric_kl(log_p, log_q).tolist(), log_p.exp().tolist(), log_q.exp().tolist(), strict=True
    ):
        assert found == pytest.approx((plain_kl(p, q) + plain_kl(q, p)) / 2, abs=1e-12)
    torch.testing.assert_close(symmetric_kl(log_p, log_q), symmetric_kl(log_q, log_p))


def test_symmetric_kl_where_both_are_zero_or_one_is():
    both = torch.tensor([0.0, -math.inf])
    assert symmetric_kl(both, both).item() == 0
    assert symmetric_kl(both, torch.tensor([0.5, 0.5]).log()).item() == math.inf


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**32))
def test_chunk_cross_entropy(vocab, groups, seed):
    """-sum_v histogram(v) log q(v), the histogram being that of the chunk's own targets."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 5, (groups,), generator=generator)
    group = torch.arange(groups).repeat_interleave(sizes)
    targets = torch.randint(0, vocab, (int(sizes.sum()),), generator=generator)
    mixture = rows(seed, groups, vocab).exp()
    found = chunk_cross_entropy(mixture, targets, group)
    assert found.shape == (groups,)
    for g in range(groups):
        own = targets[group == g].tolist()
        wanted = -sum(own.count(v) / len(own) * math.log(mixture[g, v].item()) for v in range(vocab))
        assert found[g].item() == pytest.approx(wanted, abs=1e-12)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_state_persistence_counts_neighbours_with_the_same_likeliest_state(batch, chunks, states, seed):
    log_start = rows(seed, batch, chunks, states)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, chunks + 1, (batch,), generator=generator)
    valid = torch.arange(chunks) < lengths.unsqueeze(1)
    for mask in (None, valid):
        pairs = [(b, c) for b in range(batch) for c in range(1, chunks) if mask is None or c < lengths[b]]
        same = sum(int(log_start[b, c].argmax()) == int(log_start[b, c - 1].argmax()) for b, c in pairs)
        assert [int(x) for x in state_persistence(log_start, mask)] == [same, len(pairs)]
    assert state_persistence(log_start.exp(), valid) == state_persistence(log_start, valid)
