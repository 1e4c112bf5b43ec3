"""The belief at the starts of runs: products of probabilities against the steps in log space, values and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import ChunkRule
from apelr_model.arithmetic import LOG_ARITHMETIC
from apelr_model.belief import log_normalize, normalized
from apelr_model.chain import LEAST_LOG_TRANSITION, run_starts, starts_by_products, starts_by_steps
from apelr_model.segments import Segments, build_segments

NAMES = ("run_log_probs", "log_first", "log_again", "log_transition", "evidence")


def problem(device, *, rows, runs, states, seed, spread=3.0, least=-5.0):
    """Random inputs of both forms; log-likelihoods `spread` nats apart, transitions down to about e^`least`."""
    draw = torch.Generator().manual_seed(seed)
    seen = spread * torch.randn(rows, runs, states, generator=draw, dtype=torch.float64)
    beliefs = torch.randn(2, rows, states, generator=draw, dtype=torch.float64).log_softmax(-1)
    transition = (-least * torch.rand(states, states, generator=draw, dtype=torch.float64)).log_softmax(-1)
    evidence = torch.randn(rows, runs, states, generator=draw, dtype=torch.float64)
    return [tensor.to(device) for tensor in (seen, beliefs[0], beliefs[1], transition, evidence)]


def cut(device, clocks, chunk_size, offset=0):
    """The runs of rows with these positions."""
    return ChunkRule(chunk_size=chunk_size, offset=offset).segments(torch.tensor(clocks, device=device))


def both(tensors, segments, *, with_evidence):
    """What each form gives, and the gradients of a weighted sum of it."""
    results = []
    for products in (True, False):
        given_ones = [tensor.clone().requires_grad_() for tensor in tensors]
        arguments = [*given_ones[:4], segments, given_ones[4] if with_evidence else None]
        found = starts_by_products(*arguments) if products else starts_by_steps(*arguments, LOG_ARITHMETIC)[0]
        weights = torch.linspace(-1, 2, found.numel(), dtype=found.dtype, device=found.device).view_as(found)
        (found.exp() * weights).sum().backward()
        results.append((found, [torch.zeros_like(x) if x.grad is None else x.grad for x in given_ones]))
    return results


def assert_alike(results):
    (products, of_products), (steps, of_steps) = results
    torch.testing.assert_close(products, steps, rtol=1e-10, atol=1e-10)
    for name, a, b in zip(NAMES, of_products, of_steps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


class TestProducts:
    @settings(max_examples=60)
    @given(
        states=st.integers(1, 5),
        documents=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=3), min_size=1, max_size=3),
        chunk_size=st.integers(1, 4),
        offset=st.integers(0, 1),
        with_evidence=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_they_are_the_steps(self, device, states, documents, chunk_size, offset, with_evidence, seed):
        """With rows cut differently, restarts, and rows that end before others."""
        longest = max(sum(row) for row in documents)
        clocks = [[t for length in row for t in range(length)] for row in documents]
        clocks = [clock + list(range(clock[-1] + 1, clock[-1] + 1 + longest - len(clock))) for clock in clocks]
        segments = cut(device, clocks, chunk_size, min(offset, chunk_size))
        tensors = problem(device, rows=len(clocks), runs=segments.runs, states=states, seed=seed)
        filler = torch.arange(segments.runs, device=device) >= (segments.length > 0).sum(1, keepdim=True)
        tensors[0] = tensors[0].masked_fill(filler.unsqueeze(-1) & ~segments.begins.unsqueeze(-1), 0.0)
        results = both(tensors, segments, with_evidence=with_evidence)
        for _, gradients in results:  # a filler has no targets: whatever its zeros would have done goes nowhere
            gradients[0].masked_fill_((filler & ~segments.begins).unsqueeze(-1), 0.0)
        assert_alike(results)

    @pytest.mark.parametrize(
        ("spread", "least"), [(0.1, -5.0), (40.0, -5.0), (300.0, -5.0), (300.0, -190.0), (40.0, -90.0)]
    )
    def test_gaps_and_rare_transitions(self, device, spread, least):
        """Sums of weights that fall by hundreds of nats, over many runs."""
        segments = cut(device, [list(range(400))], 2)
        tensors = problem(device, rows=2, runs=segments.runs, states=3, seed=1, spread=spread, least=least)
        assert_alike(both(tensors, segments, with_evidence=True))

    def test_a_belief_that_rules_states_out(self, device):
        """Zeros at the start are not in the way: the first run's gap of 2,000 nats is seen in full."""
        segments = cut(device, [list(range(8))], 2)
        tensors = problem(device, rows=2, runs=segments.runs, states=3, seed=2)
        for belief in tensors[1:3]:
            belief[0] = torch.tensor([0.0, -math.inf, -math.inf])
        tensors[0][0, 0] = torch.tensor([-2000.0, 0.0, 0.0])
        (products, _), (steps, _) = both(tensors, segments, with_evidence=True)
        torch.testing.assert_close(products, steps, rtol=1e-10, atol=1e-10)
        assert torch.isfinite(products[:, 1:]).all()

    def test_what_is_impossible_stays_so_and_other_rows_are_untouched(self, device):
        segments = cut(device, [list(range(8))], 2)
        tensors = problem(device, rows=2, runs=segments.runs, states=3, seed=3)
        alone = both([x[1:] if x.ndim == 3 or x.shape[0] == 2 else x for x in tensors], segments, with_evidence=False)
        tensors[0][0, 1] = -math.inf
        results = both(tensors, segments, with_evidence=False)
        for found, gradients in results:
            assert (found[0, 2:] == -math.inf).all()
            assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        torch.testing.assert_close(results[0][0][1], alone[0][0][0])

    @pytest.mark.parametrize("with_evidence", [False, True])
    def test_gradcheck(self, device, with_evidence):
        segments = cut(device, [list(range(9)), [0, 1, 2, 0, 1, 2, 3, 4, 5]], 2, 1)
        tensors = [x.requires_grad_() for x in problem(device, rows=2, runs=segments.runs, states=3, seed=4)]

        def starts(*values):
            return starts_by_products(*values[:4], segments, values[4] if with_evidence else None).exp()

        torch.autograd.gradcheck(starts, tensors[: 4 + with_evidence])

    def test_how_many_runs_are_taken_at_a_time_does_not_show(self, device, monkeypatch):
        segments = cut(device, [list(range(20)), [0, 1, 2, *range(17)]], 2)
        tensors = problem(device, rows=2, runs=segments.runs, states=3, seed=7)
        at_once = both(tensors, segments, with_evidence=True)[0]
        monkeypatch.setattr("apelr_model.chain.BLOCK", 3)
        in_blocks = both(tensors, segments, with_evidence=True)[0]
        assert torch.equal(in_blocks[0], at_once[0])
        assert all(map(torch.equal, in_blocks[1], at_once[1]))


class TestRunStarts:
    @pytest.mark.parametrize("move", [LEAST_LOG_TRANSITION - 1, -math.inf])
    def test_rarer_transitions_go_by_steps(self, device, monkeypatch, move):
        """Exact where products would underflow: a state that only a rare transition leads to, and a huge gap."""
        segments = cut(device, [list(range(6))], 2)
        tensors = problem(device, rows=1, runs=segments.runs, states=2, seed=5)
        tensors[3] = torch.tensor([[0.0, move], [move, 0.0]], dtype=torch.float64, device=device)
        monkeypatch.setattr("apelr_model.chain.starts_by_products", None)
        found, _ = run_starts(*tensors[:4], segments, None, LOG_ARITHMETIC)
        wanted, _ = starts_by_steps(*tensors[:4], segments, None, LOG_ARITHMETIC)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)

    def test_common_ones_go_by_products(self, device, monkeypatch):
        segments = cut(device, [list(range(6))], 2)
        tensors = problem(device, rows=1, runs=segments.runs, states=2, seed=6)
        monkeypatch.setattr("apelr_model.chain.starts_by_steps", None)
        found, starts = run_starts(*tensors[:4], segments, None, LOG_ARITHMETIC)
        assert found is starts


class TestNormalized:
    def test_values(self, device):
        weights = torch.tensor([[0.0, 1.0, 2.0], [-math.inf, 3.0, -math.inf], [-math.inf] * 3], device=device).double()
        log_probs, total = normalized(weights)
        torch.testing.assert_close(total, torch.logsumexp(weights, -1))
        torch.testing.assert_close(log_probs[:2], weights[:2].log_softmax(-1))
        assert (log_probs[2] == -math.inf).all()
        assert torch.equal(log_normalize(weights), log_probs)

    def test_gradients(self, device):
        weights = torch.randn(2, 3, dtype=torch.float64, device=device, requires_grad=True)
        torch.autograd.gradcheck(normalized, weights)
        torch.autograd.gradcheck(lambda x: normalized(x)[0], weights)
        torch.autograd.gradcheck(lambda x: normalized(x)[1], weights)

    def test_nothing_possible_has_gradient_zero(self, device):
        weights = torch.full((1, 3), -math.inf, dtype=torch.float64, device=device, requires_grad=True)
        normalized(weights)[1].sum().backward()
        assert (weights.grad == 0).all()


class TestPacking:
    @settings(max_examples=60)
    @given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 5), st.integers(0, 7))
    def test_even_cuts_are_padding_and_a_view(self, steps, chunk_size, offset, start):
        offset = min(offset, chunk_size)
        segments = ChunkRule(chunk_size=chunk_size, offset=offset).segments([start + t for t in range(steps)])
        values = torch.randn(2, steps, 3)
        packed = segments.pack(values)
        assert packed.shape == (2, segments.runs, segments.longest, 3)
        assert torch.equal(segments.unpack(packed), values)
        torch.testing.assert_close(packed.sum(2), segments.totals(values))
        if start:
            assert segments.lead is not None
            assert segments.unpack(packed)._base is not None  # a view: nothing is copied on the way back

    def test_rows_cut_unlike_are_gathered(self):
        segments = cut(torch.device("cpu"), [[0, 1, 2, 3, 4], [3, 0, 1, 2, 3]], 2)
        values = torch.randn(2, 5, 3)
        assert segments.lead is None
        assert torch.equal(segments.unpack(segments.pack(values)), values)

    def test_what_is_not_a_tensor_stays_on_the_way_to_a_device(self, device):
        segments = build_segments(restarts=torch.tensor([[True, False]]), crosses=torch.tensor([[False, True]]))
        moved = segments.to(device)
        assert isinstance(moved, Segments)
        assert (moved.longest, moved.lead) == (1, 0)
