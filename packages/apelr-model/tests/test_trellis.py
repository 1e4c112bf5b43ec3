"""The forward pass over runs is the filter's, whatever the rows look like."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import ChunkRule, filter_sequence, plan_trellis, smooth_plans, viterbi_plans


@settings(max_examples=40)
@given(st.integers(1, 4), st.sampled_from((0, 1)), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_runs_carry_the_filters_beliefs_and_log_likelihood(plan_problem, chunk_size, offset, zeros, evidence, seed):
    problem = plan_problem(
        [[7, 4], [3, 8]],
        seed=seed,
        states=3,
        chunk_size=chunk_size,
        offset=offset,
        zeros=zeros,
        with_evidence=evidence,
        padding=[0, 2],
    )
    filtered = filter_sequence(**problem.arguments)
    trellis = plan_trellis(**problem.arguments)
    assert trellis.log_prob.sum(1).tolist() == pytest.approx(filtered.token_log_prob.sum(1).tolist(), abs=1e-10)
    shown = trellis.in_path.unsqueeze(-1)
    torch.testing.assert_close(
        trellis.log_before.masked_fill(~shown, 0), filtered.log_start.masked_fill(~shown, 0), rtol=0, atol=1e-10
    )
    for row, first in enumerate(trellis.segments.first.tolist()):
        for run, end in enumerate((*first[1:], 11)):
            if trellis.segments.length[row, run] and trellis.in_path[row, run]:
                torch.testing.assert_close(
                    trellis.log_after[row, run], filtered.log_belief_after[row, end - 1], rtol=1e-10, atol=1e-10
                )


def test_each_target_gets_the_value_of_its_run(plan_problem):
    trellis = plan_trellis(**plan_problem([[5, 3], [8]], seed=0, chunk_size=2).arguments)
    numbers = torch.arange(trellis.runs.runs, device=trellis.in_path.device).expand_as(trellis.in_path)
    assert trellis.at_targets(numbers).tolist() == [[0, 0, 1, 1, 2, 3, 3, 4], [0, 0, 1, 1, 2, 2, 3, 3]]


def test_a_path_ends_with_the_last_run_that_holds_an_observed_target(plan_problem):
    problem = plan_problem([[4, 4], [8]], seed=0, chunk_size=2)
    arguments = {**problem.arguments, "mask": torch.tensor([[1, 1, 0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0, 1, 0]]).bool()}
    trellis = plan_trellis(**arguments)
    assert trellis.in_path.tolist() == [[True, False, True, False], [True] * 4]
    assert trellis.last.tolist() == [[0, 0, 2, 2], [3] * 4]


def test_nothing_observed_at_all_leaves_no_path(plan_problem):
    problem = plan_problem([[4], [4]], seed=0, padding=[4, 0])
    trellis = plan_trellis(**problem.arguments)
    smoothed = smooth_plans(trellis)
    assert (smoothed.log_posterior[0] == -math.inf).all()
    assert smoothed.path_entropy[0] == 0
    best = viterbi_plans(trellis)
    assert best.plans[0].tolist() == [-1, -1]
    assert best.log_posterior[0] == 0  # the empty path is certain
    assert trellis.log_prob[0].sum() == 0


@pytest.mark.parametrize("batch", [1, 2])
def test_a_first_run_entered_through_a_boundary_sums_over_the_plan_before(batch):
    """Going on from an earlier belief equals the whole text, as far as the rest of the path is concerned."""
    draw = torch.Generator().manual_seed(0)
    observed = torch.randn(batch, 6, 3, generator=draw, dtype=torch.float64)
    evidence = torch.randn(batch, 3, 3, generator=draw, dtype=torch.float64)
    initial = torch.randn(3, generator=draw, dtype=torch.float64).log_softmax(-1)
    transition = torch.randn(3, 3, generator=draw, dtype=torch.float64).log_softmax(-1)
    index = [0, 0, 1, 1, 2, 2]
    whole = plan_trellis(observed, initial, transition, index, evidence=evidence)
    rest = plan_trellis(
        observed[:, 2:], whole.log_after[:, 0], transition, index[2:], evidence=evidence[:, 1:], start_chunk=0
    )
    expected, found = smooth_plans(whole), smooth_plans(rest)
    torch.testing.assert_close(found.log_posterior, expected.log_posterior[:, 1:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.run_entropy, expected.run_entropy[:, 1:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rest.log_prob, whole.log_prob[:, 1:], rtol=1e-12, atol=1e-12)
    assert rest.runs.crosses[:, 0].sum() == 0


def test_targets_that_are_not_learned_from_weigh_nothing_but_belong_to_the_path():
    observed = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]]).log()
    flat = torch.full((2, 2), 0.5).log()
    learned = torch.tensor([[True, False, True]])
    trellis = plan_trellis(observed, flat[0], flat, [0, 1, 2], observed=learned)
    assert trellis.in_path.all()
    expected = torch.tensor([[[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]], dtype=torch.float64)
    torch.testing.assert_close(smooth_plans(trellis).log_posterior.exp(), expected)


def test_arguments_are_checked_as_the_filters_are():
    flat = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"token_log_probs must be \[B, T, K\]"):
        plan_trellis(torch.zeros(4, 2), flat[0], flat, [0] * 4)
    with pytest.raises(ValueError, match=r"evidence must be \[B, S, K\] = \[1, 2, 2\]"):
        plan_trellis(torch.zeros(1, 4, 2), flat[0], flat, [0, 0, 1, 1], evidence=torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match=r"log_initial must be \[K\] or \[B, K\]"):
        plan_trellis(torch.zeros(1, 4, 2), flat, flat, [0, 0, 1, 1])


def test_rows_of_a_rule_are_those_of_a_list_of_chunks():
    draw = torch.Generator().manual_seed(1)
    observed = torch.randn(2, 7, 3, generator=draw)
    table = torch.randn(3, 3, generator=draw).log_softmax(-1)
    rule = ChunkRule(chunk_size=3, offset=1)
    by_list = smooth_plans(plan_trellis(observed, table[0], table, rule.index(0, 7)))
    by_rule = smooth_plans(plan_trellis(observed, table[0], table, rule.segments(range(7))))
    for a, b in zip(by_list, by_rule, strict=True):
        torch.testing.assert_close(a, b)


def test_nan_is_refused_where_a_target_is_observed_and_only_there(plan_problem):
    arguments = plan_problem([[4], [4]], seed=0, states=3).arguments
    arguments["token_log_probs"][1, 2, 0] = math.nan
    with pytest.raises(ValueError, match=r"^token_log_probs must not be NaN where a target is observed"):
        plan_trellis(**arguments)
    seen = torch.ones(2, 4, dtype=torch.bool)
    seen[1, 2] = False
    for name in ("mask", "observed"):
        smoothed = smooth_plans(plan_trellis(**{**arguments, name: seen}))
        assert smoothed.path_entropy.isfinite().all()
