"""The plan given the whole text, against enumeration of all plan paths, the gradient and truncated texts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import ChunkRule, filter_sequence, fixed_lag_plans, pairwise_plans, plan_trellis, smooth_plans
from apelr_model import posterior as posterior_module

INF = math.inf

PROBLEMS = {
    "seed": st.integers(0, 2**32),
    "states": st.integers(1, 3),
    "chunk_size": st.integers(1, 3),
    "offset": st.sampled_from((0, 1)),
    "zeros": st.booleans(),
    "with_evidence": st.booleans(),
}


@st.composite
def plan_problems(draw, plan_problem):
    """Two rows of one to three documents each, some with padding; at most 3 chunks (4 with an empty first) each."""
    options = {name: draw(strategy) for name, strategy in PROBLEMS.items()}
    longest = 3 * options["chunk_size"]
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=3))
    rows = [lengths, draw(st.permutations(lengths))]
    padding = [draw(st.integers(0, sum(lengths))) for _ in rows]
    return plan_problem(rows, padding=padding, **options)


def expected_posterior(problem, row, states):
    """[S][K] p(z_s = k | text), [S][K][K] of neighbours, and the row's entropy; zero where nothing is possible."""
    single = torch.zeros(problem.runs, states, dtype=torch.float64)
    pairs = torch.zeros(problem.runs, states, states, dtype=torch.float64)
    entropy = 0.0
    for first, paths in problem.documents[row]:
        total = math.fsum(weight for _, weight in paths)
        for path, weight in paths if total else ():
            share = weight / total
            entropy -= share * math.log(share) if share else 0.0
            for c, state in enumerate(path):
                single[first + c, state] += share
                if c:
                    pairs[first + c, path[c - 1], state] += share
    return single, pairs, entropy


class TestOracle:
    @settings(max_examples=120)
    @given(st.data())
    def test_posteriors_counts_and_entropy_are_sums_over_paths(self, plan_problem, data):
        problem = data.draw(plan_problems(plan_problem))
        trellis = plan_trellis(**problem.arguments)
        smoothed = smooth_plans(trellis)
        pairs = pairwise_plans(trellis, smoothed)
        states = trellis.log_transition.shape[0]
        for tensor in (*smoothed, pairs):
            assert tensor.dtype == torch.float64
            assert not tensor.isnan().any()
        for row in range(2):
            single, both, entropy = expected_posterior(problem, row, states)
            assert (smoothed.log_posterior[row].exp().cpu() - single).abs().max() <= 1e-10
            assert (pairs[row].exp().cpu() - both).abs().max() <= 1e-10
            assert (smoothed.transition_counts[row].cpu() - both.sum(0)).abs().max() <= 1e-10
            assert smoothed.path_entropy[row].item() == pytest.approx(entropy, abs=1e-10)

    @settings(max_examples=60)
    @given(st.data(), st.integers(0, 4))
    def test_a_fixed_lag_is_smoothing_of_the_text_cut_there(self, plan_problem, data, lag):
        problem = data.draw(plan_problems(plan_problem))
        trellis = plan_trellis(**problem.arguments)
        found = fixed_lag_plans(trellis, lag)
        number = trellis.segments.number.expand(len(found), -1)
        for run in range(problem.runs):
            cut = {**problem.arguments, "mask": problem.arguments["mask"] & (number <= run + lag)}
            shorter = plan_trellis(**cut)
            whole = smooth_plans(shorter).log_posterior[:, run]
            compared = shorter.in_path[:, run]
            torch.testing.assert_close(found[compared, run], whole[compared], rtol=1e-10, atol=1e-10)
            empty = trellis.in_path[:, run] & ~compared  # a first chunk without a target: what is known before a text
            torch.testing.assert_close(found[empty, run], trellis.log_before[empty, run])
            assert (found[~compared & ~empty, run] == -INF).all()

    def test_a_text_longer_than_one_block_of_tables(self, plan_problem, monkeypatch):
        problem = plan_problem([[9, 2], [5, 6]], seed=3, chunk_size=2, offset=1, states=3)
        trellis = plan_trellis(**problem.arguments)
        whole = (*smooth_plans(trellis), pairwise_plans(trellis, smooth_plans(trellis)), fixed_lag_plans(trellis, 2))
        monkeypatch.setattr(posterior_module, "BLOCK_ELEMENTS", 40)
        pieces = (*smooth_plans(trellis), pairwise_plans(trellis, smooth_plans(trellis)), fixed_lag_plans(trellis, 2))
        for a, b in zip(whole, pieces, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


class TestSmoothing:
    def simple(self, *, steps=7, states=3, seed=0, chunk_size=2, offset=0, evidence=False):
        draw = torch.Generator().manual_seed(seed)
        index = ChunkRule(chunk_size=chunk_size, offset=offset).index(0, steps)
        observed = torch.randn(2, steps, states, generator=draw, dtype=torch.float64)
        initial = torch.randn(states, generator=draw, dtype=torch.float64).log_softmax(-1)
        transition = torch.randn(states, states, generator=draw, dtype=torch.float64).log_softmax(-1)
        weights = torch.randn(2, len(set(index)), states, generator=draw, dtype=torch.float64)
        return observed, initial, transition, index, weights if evidence else None

    @pytest.mark.parametrize(("chunk_size", "offset"), [(1, 0), (1, 1), (3, 0), (3, 1), (9, 0)])
    def test_without_evidence_it_is_the_gradient_of_the_log_likelihood(self, chunk_size, offset):
        observed, initial, transition, index, _ = self.simple(chunk_size=chunk_size, offset=offset)
        observed.requires_grad_()
        filter_sequence(observed, initial, transition, index).token_log_prob.sum().backward()
        trellis = plan_trellis(observed.detach(), initial, transition, index)
        by_target = trellis.at_targets(smooth_plans(trellis).log_posterior).exp()
        torch.testing.assert_close(by_target, observed.grad, rtol=0, atol=1e-12)

    def test_with_evidence_it_is_not(self):
        """The evidence counts in the weights of paths, and its normaliser does not count in the likelihood."""
        observed, initial, transition, index, evidence = self.simple(evidence=True)
        observed.requires_grad_()
        filter_sequence(observed, initial, transition, index, evidence=evidence).token_log_prob.sum().backward()
        trellis = plan_trellis(observed.detach(), initial, transition, index, evidence=evidence)
        by_target = trellis.at_targets(smooth_plans(trellis).log_posterior).exp()
        assert (by_target - observed.grad).abs().max() > 1e-2

    @pytest.mark.parametrize("evidence", [False, True])
    def test_at_the_last_run_it_is_the_filtered_belief_and_earlier_it_is_not(self, evidence):
        observed, initial, transition, index, weights = self.simple(evidence=evidence)
        filtered = filter_sequence(observed, initial, transition, index, evidence=weights).log_belief_after
        trellis = plan_trellis(observed, initial, transition, index, evidence=weights)
        smoothed = smooth_plans(trellis).log_posterior
        torch.testing.assert_close(smoothed[:, -1], filtered[:, -1], rtol=0, atol=1e-12)
        assert (smoothed[:, 0].exp() - filtered[:, 1].exp()).abs().max() > 1e-3

    def test_gradcheck(self, device):
        *leaves, index, evidence = self.simple(steps=5, evidence=True)
        mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2], device=device)

        def run(observed, initial, transition, evidence):
            trellis = plan_trellis(observed, initial, transition, index, evidence=evidence, mask=mask)
            smoothed = smooth_plans(trellis)
            posterior = smoothed.log_posterior[trellis.in_path]
            return trellis.log_prob, posterior, smoothed.transition_counts, smoothed.path_entropy

        assert torch.autograd.gradcheck(run, [x.to(device).requires_grad_() for x in (*leaves, evidence)])

    def test_gradients_are_numbers_where_plans_are_impossible(self, plan_problem):
        for seed in range(20):
            problem = plan_problem([[4, 3], [7]], seed=seed, states=3, zeros=True, padding=[1, 0])
            leaves = [problem.arguments[name].requires_grad_() for name in ("token_log_probs", "log_transition")]
            smoothed = smooth_plans(plan_trellis(**problem.arguments))
            (smoothed.log_posterior.exp().square().sum() + smoothed.path_entropy.sum()).backward()
            assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)

    def test_an_impossible_document_is_minus_infinity_and_leaves_the_others_alone(self, plan_problem):
        problem = plan_problem([[4, 4]], seed=1, chunk_size=2)
        possible = smooth_plans(plan_trellis(**problem.arguments))
        problem.arguments["token_log_probs"][0, 6] = -INF
        trellis = plan_trellis(**problem.arguments)
        smoothed = smooth_plans(trellis)
        torch.testing.assert_close(smoothed.log_posterior[:, :2], possible.log_posterior[:, :2])
        assert (smoothed.log_posterior[:, 2:] == -INF).all()
        assert (smoothed.run_entropy[:, 2:] == 0).all()
        assert trellis.log_prob.sum() == -INF
        assert smoothed.transition_counts.sum().item() == pytest.approx(1)  # the first document's one boundary

    def test_padding_says_nothing_whatever_stands_there(self, plan_problem):
        problem = plan_problem([[8], [3, 5]], seed=2, padding=[3, 4], states=3)
        expected = smooth_plans(plan_trellis(**problem.arguments))
        unseen = ~problem.arguments["mask"]
        assert (expected.log_posterior[0, 3:] == -INF).all()
        for filler in (math.nan, INF, -INF, 1e30):
            problem.arguments["token_log_probs"][unseen] = filler
            problem.arguments["evidence"][0, 3:] = filler
            for a, b in zip(expected, smooth_plans(plan_trellis(**problem.arguments)), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)

    def test_entropy_is_zero_where_the_text_decides_and_log_k_a_chunk_where_it_says_nothing(self):
        flat = torch.full((4, 4), 0.25).log()
        nothing = torch.zeros(1, 6, 4)
        entropy = smooth_plans(plan_trellis(nothing, flat[0], flat, [0, 0, 1, 1, 2, 2])).path_entropy
        assert entropy.item() == pytest.approx(3 * math.log(4))
        decided = nothing.masked_fill(torch.arange(4) != 1, -INF)
        assert smooth_plans(plan_trellis(decided, flat[0], flat, [0, 0, 1, 1, 2, 2])).path_entropy.item() == 0

    def test_counts_add_up_to_the_boundaries_inside_documents(self, plan_problem):
        problem = plan_problem([[5, 4], [9]], seed=4, states=3, chunk_size=2)
        counts = smooth_plans(plan_trellis(**problem.arguments)).transition_counts
        torch.testing.assert_close(counts.sum((1, 2)).cpu(), torch.tensor([2.0 + 1.0, 4.0], dtype=torch.float64))


class TestFixedLag:
    def test_no_lag_is_the_filter_and_a_long_one_is_smoothing(self, plan_problem):
        problem = plan_problem([[4, 5], [9]], seed=5, states=3)
        trellis = plan_trellis(**problem.arguments)
        torch.testing.assert_close(fixed_lag_plans(trellis, 0)[1], trellis.log_after[1])
        smoothed = smooth_plans(trellis).log_posterior
        torch.testing.assert_close(fixed_lag_plans(trellis, 100), smoothed, rtol=1e-12, atol=1e-12)

    def test_a_negative_lag_is_refused(self, plan_problem):
        with pytest.raises(ValueError, match=r"^lag must be >= 0, got -1$"):
            fixed_lag_plans(plan_trellis(**plan_problem([[3]], seed=0).arguments), -1)


def test_10_000_steps_of_100_states_are_finite_and_normalised(device):
    """Gaps of more than 100 nats between states, one observation a chunk."""
    draw = torch.Generator().manual_seed(0)
    observed = 30 * torch.randn(1, 10_000, 100, generator=draw)
    initial = torch.randn(100, generator=draw).log_softmax(-1)
    transition = (5 * torch.randn(100, 100, generator=draw)).log_softmax(-1)
    with torch.no_grad():
        trellis = plan_trellis(observed.to(device), initial.to(device), transition.to(device), range(10_000))
        smoothed = smooth_plans(trellis)
    one = torch.ones(1, 10_000, dtype=torch.float64)
    torch.testing.assert_close(smoothed.log_posterior.exp().sum(-1).cpu(), one, rtol=0, atol=1e-9)
    assert torch.isfinite(trellis.log_prob).all()
    assert torch.isfinite(smoothed.path_entropy).all()
    assert smoothed.transition_counts.sum().item() == pytest.approx(9_999, abs=1e-5)
