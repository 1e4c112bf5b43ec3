"""Unlikelihood of repetition against a reference with loops over rows, positions and the window."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import slices
from apelr_model.head_experts import ExpertHead
from apelr_model.repetition import recent_tokens, rep_unlikelihood, unlikelihood

K, V, D = 3, 5, 4


def problem(batch, steps, seed, vocab=V):
    """A row of T + 1 ids: inputs [B, T] and targets [B, T]; hidden [B, T, D], log_gate [B, T, K]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocab, (batch, steps + 1), generator=generator)
    torch.manual_seed(seed)
    head = ExpertHead(vocab_size=vocab, num_plan_states=K, hidden_dim=D, dropout=0.0).double()
    hidden = torch.randn(batch, steps, D, generator=generator, dtype=torch.float64)
    log_gate = torch.randn(batch, steps, K, generator=generator, dtype=torch.float64).log_softmax(-1)
    return ids[:, :-1], ids[:, 1:], head, hidden.requires_grad_(), log_gate.requires_grad_()


def plain_sets(x, y, window, starts=None):
    """For each row and t: the distinct u among x_{t-w} ... x_{t-1}, within the row and the document, u != y_t."""
    found = []
    for b in range(len(x)):
        row = []
        for t in range(len(x[b])):
            first = max(t - window, 0 if starts is None else starts[b][t])
            row.append({x[b][s] for s in range(first, t)} - {y[b][t]})
        found.append(row)
    return found


def kept_sets(recent):
    rows = zip(recent.ids, recent.keep, strict=True)
    return [[sorted(ids[keep].tolist()) for ids, keep in zip(*row, strict=True)] for row in rows]


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**32))
def test_the_ids_are_the_distinct_ones_of_the_window_without_the_target(batch, steps, window, seed):
    inputs, targets, *_ = problem(batch, steps, seed)
    recent = recent_tokens(inputs, targets, window)
    assert recent.ids.shape == recent.keep.shape == (batch, steps, min(window, steps - 1))
    wanted = [[sorted(u) for u in row] for row in plain_sets(inputs.tolist(), targets.tolist(), window)]
    assert kept_sets(recent) == wanted
    assert ((recent.ids >= 0) & (recent.ids < V)).all()


@given(st.integers(2, 9), st.integers(1, 12), st.integers(0, 2**32))
def test_the_window_ends_at_the_documents_start(steps, window, seed):
    inputs, targets, *_ = problem(2, steps, seed)
    generator = torch.Generator().manual_seed(seed)
    starts = []
    for row in (torch.rand(2, steps, generator=generator) < 0.3).tolist():
        starts.append([max([s for s in range(t + 1) if row[s]], default=0) for t in range(steps)])
    positions = torch.arange(steps) - torch.tensor(starts)
    recent = recent_tokens(inputs, targets, window, positions=positions)
    wanted = [[sorted(u) for u in row] for row in plain_sets(inputs.tolist(), targets.tolist(), window, starts)]
    assert kept_sets(recent) == wanted


def test_the_input_just_read_is_not_in_the_window():
    """x = a a a: target 1 sees x_0 alone, and no target sees its own x_t."""
    recent = recent_tokens(torch.tensor([[3, 1, 2]]), torch.tensor([[1, 2, 0]]), 1)
    assert kept_sets(recent) == [[[], [3], [1]]]


def test_an_impossible_window_is_refused():
    with pytest.raises(ValueError, match="rep_window must be >= 1, got 0"):
        recent_tokens(torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), 0)


@settings(max_examples=25)
@given(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 9), st.sampled_from([1, 3 * K * V, 2**22]), st.integers(0, 99)
)
def test_values_and_gradients_are_the_references(batch, steps, window, limit, seed):
    inputs, targets, head, hidden, log_gate = problem(batch, steps, seed)
    lengths = torch.randint(1, steps + 1, (batch,), generator=torch.Generator().manual_seed(seed))
    valid = torch.arange(steps) < lengths.unsqueeze(1)
    recent = recent_tokens(inputs, targets, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "SLICE_ELEMENTS", limit)
        patch.setattr(slices, "SLICE_TOKENS", 1)
        values = rep_unlikelihood(head, hidden[valid], log_gate[valid], recent.ids[valid], recent.keep[valid])
        count = recent.keep[valid].any(-1).sum()

        mixture = (log_gate.exp().unsqueeze(-1) * head(hidden.flatten(0, 1)).softmax(-1).view(batch, steps, K, V)).sum(
            2
        )
        terms = []
        for b, row in enumerate(plain_sets(inputs.tolist(), targets.tolist(), window)):
            for t, distinct in enumerate(row):
                if distinct and t < lengths[b]:
                    terms.append(sum(-torch.log(1 - mixture[b, t, u]) for u in distinct) / len(distinct))
        assert values.shape == (int(lengths.sum()),)
        assert count == len(terms)
        if not terms:
            assert (values == 0).all()
            return
        found, wanted = values.sum() / count, sum(terms) / len(terms)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
        leaves = [*head.parameters(), hidden, log_gate]
        for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_p", [0.0, 1e-7, -1e-9, -1e-5, -0.1, -math.log(2), -1.0, -50.0, -1e4, -math.inf])
def test_any_probability_gives_a_finite_value_and_gradient(dtype, log_p):
    log_probs = torch.tensor([[log_p]], dtype=dtype, requires_grad=True)
    found = unlikelihood(log_probs, torch.ones(1, 1, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(found.sum(), log_probs)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()
    assert (gradient > 0).all() if log_p > -50 else (gradient >= 0).all()
    if log_p < -1e-6:
        p = math.exp(log_p)
        assert found.item() == pytest.approx(-math.log1p(-p), rel=1e-2 if log_p > -1e-3 else 1e-5)


def test_ids_that_are_not_kept_do_not_matter():
    log_probs = torch.tensor([[-1.0, 0.0, -2.0], [-1.0, -1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([[True, False, True], [False, False, False]])
    found = unlikelihood(log_probs, keep)
    wanted = -(math.log1p(-math.exp(-1)) + math.log1p(-math.exp(-2))) / 2
    assert found.tolist() == pytest.approx([wanted, 0.0])
    (gradient,) = torch.autograd.grad(found.sum(), log_probs)
    assert gradient[0, 1] == 0
    assert (gradient[1] == 0).all()


def test_descending_it_makes_recent_words_less_likely():
    inputs, targets, head, hidden, log_gate = problem(2, 6, 0)
    recent = recent_tokens(inputs, targets, 4)
    flat = (hidden.flatten(0, 1), log_gate.flatten(0, 1), recent.ids.flatten(0, 1), recent.keep.flatten(0, 1))

    def mass():
        mixture = (flat[1].exp().unsqueeze(-1) * head(flat[0]).softmax(-1)).sum(1)
        return (mixture.gather(-1, flat[2]) * flat[3]).sum()

    before = mass()
    (gradient,) = torch.autograd.grad(rep_unlikelihood(head, *flat).sum(), head.weight)
    with torch.no_grad():
        head.weight -= 0.05 * gradient
    assert mass() < before


def test_a_certain_repetition_is_pushed_down_in_float32():
    """Where p(u) = 1 to the last digit, descending still lowers u's logit."""
    head = ExpertHead(vocab_size=V, num_plan_states=1, hidden_dim=D, dropout=0.0)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([[17.0, 0, 0, 0, 0]]))
    hidden, log_gate = torch.zeros(1, D), torch.zeros(1, 1, dtype=torch.float64)
    found = rep_unlikelihood(head, hidden, log_gate, torch.tensor([[0]]), torch.tensor([[True]]))
    assert found.item() > 12
    (gradient,) = torch.autograd.grad(found.sum(), head.bias)
    assert torch.isfinite(gradient).all()
    assert (gradient[0, 1:] < 0).all()
