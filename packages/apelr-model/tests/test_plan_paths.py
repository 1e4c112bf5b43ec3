"""Whole plan paths against enumeration: the most likely one, samples, and the probability of any."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import plan_path_log_prob, plan_trellis, sample_plans, smooth_plans, viterbi_plans

INF = math.inf


@st.composite
def plan_problems(draw, plan_problem):
    """Two rows of one to three documents each, some with padding; at most 3 chunks (4 with an empty first) each."""
    chunk_size = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(1, 3 * chunk_size), min_size=1, max_size=3))
    rows = [lengths, draw(st.permutations(lengths))]
    return plan_problem(
        rows,
        seed=draw(st.integers(0, 2**32)),
        states=draw(st.integers(1, 3)),
        chunk_size=chunk_size,
        offset=draw(st.sampled_from((0, 1))),
        zeros=draw(st.booleans()),
        with_evidence=draw(st.booleans()),
        padding=[draw(st.integers(0, sum(lengths))) for _ in rows],
    )


def row_paths(problem, row):
    """(first run, {path: share of the document's weight}) for each document of the row that has a path."""
    for first, paths in problem.documents[row]:
        total = math.fsum(weight for _, weight in paths)
        if paths:
            yield first, {path: weight / total if total else 0.0 for path, weight in paths}


class TestViterbi:
    @settings(max_examples=100)
    @given(st.data())
    def test_the_best_path_of_all(self, plan_problem, data):
        problem = data.draw(plan_problems(plan_problem))
        trellis = plan_trellis(**problem.arguments)
        best = viterbi_plans(trellis)
        assert best.plans.shape == trellis.in_path.shape
        for row in range(2):
            plans = best.plans[row].tolist()
            outside = set(range(problem.runs))
            probability = 1.0
            for first, shares in row_paths(problem, row):
                runs = range(first, first + len(next(iter(shares))))
                outside -= set(runs)
                top = max(shares.values())
                probability *= top
                path = tuple(plans[run] for run in runs)
                if top == 0:
                    assert set(path) == {-1}
                else:
                    assert shares[path] == pytest.approx(top, rel=1e-10)
            assert {plans[run] for run in outside} <= {-1}
            assert math.exp(best.log_posterior[row].item()) == pytest.approx(probability, rel=1e-10, abs=1e-300)

    def test_the_best_path_is_not_the_path_of_best_states(self):
        """State 0 is the likeliest first plan, but its mass splits over the next states; the best path avoids it."""
        initial = torch.tensor([0.4, 0.3, 0.3]).log()
        transition = torch.tensor([[0.4, 0.3, 0.3], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).log()
        trellis = plan_trellis(torch.zeros(1, 2, 3), initial, transition, [0, 1])
        best = viterbi_plans(trellis)
        assert smooth_plans(trellis).log_posterior[0, 0].argmax() == 0
        assert best.plans.tolist() == [[1, 1]]
        assert best.log_posterior.exp().item() == pytest.approx(0.3)

    def test_no_gradient_is_kept(self, plan_problem):
        arguments = plan_problem([[5]], seed=0).arguments
        arguments["token_log_probs"].requires_grad_()
        assert not viterbi_plans(plan_trellis(**arguments)).log_posterior.requires_grad

    def test_long_texts_keep_their_precision(self):
        """2,000 runs with gaps of 100 nats, then two states that differ by a hair."""
        draw = torch.Generator().manual_seed(0)
        observed = 100 * torch.randn(1, 2_000, 5, generator=draw, dtype=torch.float64)
        observed[:, -1] = torch.tensor([0.0, 1e-9, -1.0, -1.0, -1.0], dtype=torch.float64)
        flat = torch.full((5, 5), 0.2).log()
        best = viterbi_plans(plan_trellis(observed, flat[0], flat, range(2_000)))
        assert best.plans[0].tolist() == observed[0].argmax(-1).tolist()
        assert math.isfinite(best.log_posterior.item())


class TestSamples:
    @settings(max_examples=40)
    @given(st.data())
    def test_every_sample_is_a_possible_path_with_its_probability(self, plan_problem, device, data):
        problem = data.draw(plan_problems(plan_problem))
        trellis = plan_trellis(**problem.arguments)
        found = sample_plans(trellis, 4, generator=torch.Generator(device).manual_seed(0))
        assert found.plans.shape == (4, *trellis.in_path.shape)
        assert found.log_posterior.shape == (4, 2)
        for row in range(2):
            for sample in range(4):
                plans, probability = found.plans[sample, row].tolist(), 1.0
                for first, shares in row_paths(problem, row):
                    path = tuple(plans[first : first + len(next(iter(shares)))])
                    impossible = sum(shares.values()) == 0
                    assert impossible == (set(path) == {-1})
                    probability *= 0.0 if impossible else shares[path]
                log_prob = found.log_posterior[sample, row].item()
                assert math.exp(log_prob) == pytest.approx(probability, rel=1e-10, abs=1e-300)
                assert probability > 0 or log_prob == -INF

    @pytest.mark.parametrize(("rows", "offset"), [([[5], [5]], 0), ([[3, 2], [2, 3]], 1)])
    def test_paths_come_as_often_as_they_should(self, plan_problem, device, rows, offset):
        """Pearson's statistic over all paths of a row; a hundred thousand samples with a fixed seed."""
        problem = plan_problem(rows, seed=6, states=2, chunk_size=2, offset=offset)
        trellis = plan_trellis(**problem.arguments)
        count = 100_000
        plans = sample_plans(trellis, count, generator=torch.Generator(device).manual_seed(1)).plans
        for row in range(2):
            for first, shares in row_paths(problem, row):
                length = len(next(iter(shares)))
                numbers = (plans[:, row, first : first + length] * 2 ** torch.arange(length, device=device)).sum(-1)
                seen = torch.bincount(numbers, minlength=2**length).tolist()
                expected = {sum(k << c for c, k in enumerate(path)): share for path, share in shares.items()}
                pearson = sum((seen[n] - count * share) ** 2 / (count * share) for n, share in expected.items())
                freedom = len(expected) - 1
                assert pearson < freedom + 5 * math.sqrt(2 * freedom) + 5

    def test_a_seed_gives_the_same_paths(self, plan_problem, device):
        trellis = plan_trellis(**plan_problem([[9]], seed=7, states=3).arguments)
        one, two = (sample_plans(trellis, 20, generator=torch.Generator(device).manual_seed(3)) for _ in range(2))
        assert torch.equal(one.plans, two.plans)
        assert len(one.plans.unique(dim=0)) > 1

    def test_a_count_below_one_is_refused(self, plan_problem):
        with pytest.raises(ValueError, match=r"^count must be >= 1, got 0$"):
            sample_plans(plan_trellis(**plan_problem([[3]], seed=0).arguments), 0)


class TestPathProbability:
    def test_the_probabilities_of_all_paths_sum_to_one_and_follow_the_enumeration(self, plan_problem):
        problem = plan_problem([[5]], seed=8, states=3, chunk_size=2)
        trellis = plan_trellis(**problem.arguments)
        ((_, shares),) = row_paths(problem, 0)
        plans = torch.tensor(list(shares)).unsqueeze(1)
        found = plan_path_log_prob(trellis, plans)
        assert found.shape == (27, 1)
        assert found.exp().sum().item() == pytest.approx(1)
        expected = torch.tensor(list(shares.values()), dtype=torch.float64)
        torch.testing.assert_close(found[:, 0].exp().cpu(), expected, rtol=0, atol=1e-12)

    def test_minus_one_inside_a_path_is_impossible_and_padding_is_passed_over(self, plan_problem):
        trellis = plan_trellis(**plan_problem([[6]], seed=9, padding=[2]).arguments)
        zero = plan_path_log_prob(trellis, torch.tensor([[0, 0, 0]]))
        assert torch.isfinite(zero).all()
        assert torch.equal(zero, plan_path_log_prob(trellis, torch.tensor([[0, 0, -1]])))
        assert plan_path_log_prob(trellis, torch.tensor([[0, -1, 0]])).item() == -INF

    def test_wrong_plans_are_refused(self, plan_problem):
        trellis = plan_trellis(**plan_problem([[6]], seed=9).arguments)
        with pytest.raises(ValueError, match=r"plans must be \[..., B, S\] with B, S = 1, 3, got \[3\]"):
            plan_path_log_prob(trellis, torch.tensor([0, 0, 0]))
        for wrong in (2, -2):
            with pytest.raises(ValueError, match="plans must be -1 or a state from 0 to 1"):
                plan_path_log_prob(trellis, torch.tensor([[0, wrong, 0]]))
