"""Comparing plans whatever their states are called: hand values, scikit-learn, and what a renaming may not change."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from apelr_model import (
    adjusted_rand_index,
    compare_plans,
    contingency,
    match_states,
    normalized_mutual_information,
    plan_trellis,
    smooth_plans,
    viterbi_plans,
)

SEEDS = st.integers(0, 2**32)


def labels(count, states, seed):
    return torch.randint(0, states, (count,), generator=torch.Generator().manual_seed(seed))


class TestHandValues:
    def test_six_targets(self):
        """0 0 0 1 1 1 against 1 1 0 0 0 0: the names exchanged, and one target moved."""
        found = compare_plans(torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([1, 1, 0, 0, 0, 0]))
        assert found.table.tolist() == [[1, 2], [3, 0]]
        assert found.matching.tolist() == [1, 0]
        assert found.accuracy == pytest.approx(5 / 6)
        # Pairs together: in both 1 + 3 = 4, in the first 3 + 3 = 6, in the second 6 + 1 = 7, of 15 in all.
        assert found.adjusted_rand == pytest.approx((4 - 6 * 7 / 15) / ((6 + 7) / 2 - 6 * 7 / 15))
        entropies = (math.log(2), -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3))
        joint = -(1 / 6) * math.log(1 / 6) - (1 / 3) * math.log(1 / 3) - (1 / 2) * math.log(1 / 2)
        assert found.normalized_mutual_info == pytest.approx((sum(entropies) - joint) / (sum(entropies) / 2))

    def test_posteriors_count_what_is_expected(self):
        first = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
        second = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
        found = compare_plans(first, second)
        assert found.table.tolist() == [[0.25, 1.0], [0.25, 0.5]]
        assert found.matching.tolist() == [1, 0]
        assert found.accuracy == pytest.approx(1.25 / 2)

    def test_certain_posteriors_are_labels(self):
        one, two = labels(50, 3, 0), labels(50, 4, 1)
        hard = compare_plans(one, two)
        soft = compare_plans(torch.eye(3)[one], torch.eye(4)[two])
        mixed = compare_plans(one, torch.eye(4)[two])
        for other in (soft, mixed):
            assert torch.equal(hard.table, other.table)
            assert hard[2:] == other[2:]

    def test_more_states_on_one_side_leave_some_over(self):
        found = compare_plans(torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([1, 1, 1, 0, 0, 0]))
        assert found.matching.tolist() == [1, -1, 0]
        assert found.accuracy == pytest.approx(5 / 6)

    def test_one_state_each_is_the_same_partition(self):
        found = compare_plans(torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long))
        assert found[2:] == (1.0, 1.0, 1.0)

    def test_one_state_against_many_says_nothing(self):
        found = compare_plans(torch.zeros(4, dtype=torch.long), torch.arange(4))
        assert found[2:] == (0.25, 0.0, 0.0)


class TestAgainstScikitLearn:
    @settings(max_examples=40)
    @given(st.integers(2, 60), st.integers(1, 6), st.integers(1, 6), SEEDS)
    def test_ari_and_nmi(self, count, first, second, seed):
        one, two = labels(count, first, seed), labels(count, second, seed + 1)
        found = compare_plans(one, two)
        assert found.adjusted_rand == pytest.approx(metrics.adjusted_rand_score(one, two), abs=1e-10)
        assert found.normalized_mutual_info == pytest.approx(metrics.normalized_mutual_info_score(one, two), abs=1e-10)
        table = metrics.cluster.contingency_matrix(one, two)
        assert torch.equal(found.table[found.table.sum(1) > 0][:, found.table.sum(0) > 0], torch.tensor(table).double())


def posteriors(count, states, seed, sharpness=1.0):
    draw = torch.randn(count, states, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharpness * draw).softmax(-1)


def pairs_together(*plans):
    """How many pairs of targets have the same state in each of the plans."""
    pairs = itertools.combinations(range(len(plans[0])), 2)
    return sum(all(plan[s] == plan[t] for plan in plans) for s, t in pairs)


class TestRandIndexOfPosteriors:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 2), SEEDS)
    def test_pairs_are_those_of_drawn_labels_on_average(self, count, first, second, seed):
        one, two = posteriors(count, first, seed), posteriors(count, second, seed + 1)
        together = in_first = in_second = 0.0
        for a in itertools.product(range(first), repeat=count):
            for b in itertools.product(range(second), repeat=count):
                chance = math.prod(one[t, a[t]].item() * two[t, b[t]].item() for t in range(count))
                together += chance * pairs_together(a, b)
                in_first += chance * pairs_together(a)
                in_second += chance * pairs_together(b)
        expected = in_first * in_second / math.comb(count, 2)
        most = (in_first + in_second) / 2
        found = adjusted_rand_index(one, two)
        assert found == pytest.approx(1.0 if most - expected < 1e-12 else (together - expected) / (most - expected))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(2, 5), st.integers(2, 3), SEEDS)
    def test_the_mean_over_the_orders_of_the_targets_is_zero(self, count, states, seed):
        one, two = posteriors(count, states, seed), posteriors(count, 2, seed + 1)
        found = [adjusted_rand_index(one, two[list(order)]) for order in itertools.permutations(range(count))]
        assert sum(found) / len(found) == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("sharpness", [0.0, 1.0, 10.0])
    def test_unrelated_ones_are_near_zero(self, sharpness):
        one, two = posteriors(400, 8, 0, sharpness), posteriors(400, 8, 1, sharpness)
        assert abs(compare_plans(one, two).adjusted_rand) < 0.01

    def test_against_themselves_at_most_one_and_nearer_the_more_certain(self):
        found = [adjusted_rand_index(p, p) for p in (posteriors(50, 4, 0, sharp) for sharp in (0.5, 2.0, 8.0, 1e4))]
        assert found == sorted(found)
        assert -0.01 < found[0] < 0.1
        assert found[-1] == pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize("half", [0.5, 0.3])
    def test_a_single_target_is_the_same_partition(self, half):
        plan = torch.tensor([[half, 1 - half]])
        assert adjusted_rand_index(plan, plan) == 1.0

    def test_sums_that_are_a_little_off_change_nothing(self):
        one, two = posteriors(30, 4, 0), posteriors(30, 4, 1)
        assert adjusted_rand_index(one * 1.0009, two) == pytest.approx(adjusted_rand_index(one, two), abs=1e-12)

    def test_masked_targets_count_nowhere(self):
        one, two, mask = posteriors(9, 3, 0), posteriors(9, 3, 1), torch.arange(9) < 6
        assert adjusted_rand_index(one, two, mask) == adjusted_rand_index(one[:6], two[:6])


class TestNames:
    @settings(max_examples=30)
    @given(st.integers(1, 40), st.integers(1, 6), SEEDS)
    def test_renaming_changes_nothing_but_the_matching(self, count, states, seed):
        one = labels(count, states, seed)
        order = torch.randperm(states, generator=torch.Generator().manual_seed(seed))
        same = compare_plans(one, order[one])
        assert same[2:] == pytest.approx((1.0, 1.0, 1.0))
        used = one.unique()
        assert torch.equal(same.matching[used], order[used])
        two = labels(count, states, seed + 1)
        plain, renamed = compare_plans(one, two), compare_plans(order[one], two)
        assert plain[2:] == pytest.approx(renamed[2:])

    @settings(max_examples=30)
    @given(st.integers(1, 40), st.integers(1, 6), SEEDS)
    def test_order_of_the_two_and_ranges(self, count, states, seed):
        one, two = labels(count, states, seed), labels(count, states, seed + 1)
        there, back = compare_plans(one, two), compare_plans(two, one)
        assert there[2:] == pytest.approx(back[2:])
        assert 0 < there.accuracy <= 1
        assert -1 <= there.adjusted_rand <= 1
        assert 0 <= there.normalized_mutual_info <= 1

    def test_unrelated_plans_have_an_ari_near_zero(self):
        found = compare_plans(labels(20_000, 4, 0), labels(20_000, 4, 1))
        assert abs(found.adjusted_rand) < 0.01
        assert found.normalized_mutual_info < 0.01

    def test_the_functions_of_the_table_are_what_compare_plans_reports(self):
        one, two = labels(30, 3, 0), labels(30, 3, 5)
        found, table = compare_plans(one, two), contingency(one, two)
        assert torch.equal(found.table, table)
        assert torch.equal(found.matching, match_states(table))
        assert found.adjusted_rand == adjusted_rand_index(one, two)
        assert found.normalized_mutual_info == normalized_mutual_information(table)


class TestWhatCounts:
    def test_masked_targets_and_those_without_a_plan_count_nowhere(self):
        one, two = torch.tensor([[0, 1, -1, 1]]), torch.tensor([[1, 0, 0, 1]])
        mask = torch.tensor([[True, True, True, False]])
        found = compare_plans(one, two, mask)
        assert found.table.tolist() == [[0, 1], [1, 0]]
        assert found.accuracy == 1.0

    def test_two_models_with_renamed_states_are_told_to_agree(self, plan_problem):
        """Paths and posteriors of one text, from a model and from the same model with its states renamed."""
        arguments = plan_problem([[9, 4], [13]], seed=0, states=3, padding=[2, 0]).arguments
        order = torch.tensor([2, 0, 1])
        renamed = {
            **arguments,
            **{
                key: arguments[key][..., order] for key in ("token_log_probs", "log_initial", "log_restart", "evidence")
            },
            "log_transition": arguments["log_transition"][order][:, order],
        }
        first, second = plan_trellis(**arguments), plan_trellis(**renamed)
        paths = compare_plans(viterbi_plans(first).plans, viterbi_plans(second).plans)
        assert paths.accuracy == paths.adjusted_rand == 1.0
        posteriors = [smooth_plans(trellis).log_posterior.exp() for trellis in (first, second)]
        found = compare_plans(*posteriors)
        assert found.matching.tolist() == order.argsort().tolist()
        assert found.table.sum().item() == pytest.approx(int(first.in_path.sum()))

    def test_wrong_inputs_are_refused(self):
        whole = torch.zeros(4, dtype=torch.long)
        with pytest.raises(ValueError, match=r"the plans must be of the same targets, got \[4\] and \[3\]"):
            compare_plans(whole, whole[:3])
        with pytest.raises(ValueError, match=r"mask must be \[4\], got \[2\]"):
            compare_plans(whole, whole, torch.ones(2).bool())
        with pytest.raises(ValueError, match="no target is left to compare"):
            compare_plans(whole, whole, torch.zeros(4).bool())
        with pytest.raises(ValueError, match=r"second must hold plan states below 1024, got 5000000; torch\.unique"):
            contingency(whole, whole + 5_000_000)
        assert contingency(whole, whole + 1023).shape == (1, 1024)
        with pytest.raises(ValueError, match="first must hold plan states from 0 on, or -1 for none"):
            compare_plans(whole - 2, whole)
        with pytest.raises(ValueError, match=r"second must hold probabilities \(not their logarithms\)"):
            compare_plans(whole, torch.full((4, 2), 0.5).log())
        with pytest.raises(ValueError, match=r"first must be \[...\] whole numbers or \[..., K\] probabilities"):
            compare_plans(torch.zeros(4), whole)
