"""Recovery of known plans: hand-made chunks, tables by loops, and transitions whose distance is known."""

import itertools
import math

import pytest
import torch

from apelr_model import (
    GoldChunks,
    LabelledBatch,
    TokenBatch,
    V1Config,
    build_model,
    compare_plans,
    matched_transition_distance,
    plan_recovery,
    read_gold_chunks,
)


def chunks_of(filtered, smoothed, labels, transition=None):
    """[N][S][K] probabilities, [N][S] labels -> GoldChunks with one document a row."""
    filtered = torch.tensor(filtered, dtype=torch.float64)
    states = filtered.shape[-1]
    uniform = torch.full((states, states), 1 / states, dtype=torch.float64)
    return GoldChunks(
        filtered.log(),
        torch.tensor(smoothed, dtype=torch.float64).log(),
        torch.tensor(labels),
        torch.zeros(filtered.shape[:2], dtype=torch.long),
        torch.tensor(labels) >= 0,
        (uniform if transition is None else torch.tensor(transition, dtype=torch.float64)).log(),
        uniform[0].log(),
    )


def sure(states, count):
    return [[float(k == state) for k in range(count)] for state in states]


class TestRecovery:
    GOLD = ((0, 0, 1, 1, 2, -1), (2, 2, 0, 1, -1, 0))

    def test_other_names_for_the_right_plans(self):
        names = {0: 2, 1: 0, 2: 1, -1: 0}
        plans = [sure([names[g] for g in row], 3) for row in self.GOLD]
        found = plan_recovery(chunks_of(plans, plans, self.GOLD))
        assert (found.chunks, found.labels, found.transition) == (10, 3, None)
        for agreement in (found.filtered, found.smoothed):
            assert agreement.normalized_mutual_info == pytest.approx(1)
            assert agreement.adjusted_rand == pytest.approx(1)
            assert agreement.accuracy == 1
            assert agreement.matching == (1, 2, 0)
            assert agreement.table == ((0, 3, 0), (0, 0, 3), (4, 0, 0))
            shares = [0.3, 0.3, 0.4]
            assert agreement.used_states == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)))

    def test_the_likeliest_state_counts_filtered_and_smoothed_apart(self):
        filtered = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(0)).softmax(-1).tolist()
        smoothed = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(1)).softmax(-1).tolist()
        found = plan_recovery(chunks_of(filtered, smoothed, self.GOLD))
        for plans, ours in ((filtered, found.filtered), (smoothed, found.smoothed)):
            pairs = [
                (belief.index(max(belief)), gold)
                for row, golds in zip(plans, self.GOLD, strict=True)
                for belief, gold in zip(row, golds, strict=True)
                if gold >= 0
            ]
            table = [[pairs.count((k, g)) for g in range(3)] for k in range(4)]
            assert ours.table == tuple(tuple(row) for row in table)
            theirs = compare_plans(torch.tensor([p for p, _ in pairs]), torch.tensor([g for _, g in pairs]))
            assert ours.normalized_mutual_info == pytest.approx(theirs.normalized_mutual_info)
            assert ours.adjusted_rand == pytest.approx(theirs.adjusted_rand)
            best = max(
                sum(table[k][names[k]] for k in range(4) if names[k] < 3) for names in itertools.permutations(range(4))
            )
            assert ours.accuracy == pytest.approx(best / len(pairs))
            assert sorted(ours.matching) == [-1, 0, 1, 2]

    def test_chunks_that_are_cut_off_are_not_compared(self):
        plans = [sure([0, 0, 1, 1, 2, 2], 3), sure([2, 2, 0, 1, 1, 1], 3)]
        chunks = chunks_of(plans, plans, self.GOLD)
        chunks.compared[1, 5] = False
        found = plan_recovery(chunks)
        assert found.chunks == 9
        assert found.filtered.accuracy == 1

    def test_one_state_for_everything_is_a_dead_plan(self):
        plans = [sure([3] * 6, 4)] * 2
        found = plan_recovery(chunks_of(plans, plans, self.GOLD)).filtered
        assert found.normalized_mutual_info == pytest.approx(0, abs=1e-12)
        assert found.adjusted_rand == pytest.approx(0, abs=1e-12)
        assert found.used_states == pytest.approx(1)
        assert found.accuracy == pytest.approx(4 / 10)

    def test_transitions_are_compared_by_the_matching_of_the_filtered_plans(self):
        names = {0: 2, 1: 0, 2: 1, -1: 0}
        truth = [[0.8, 0.1, 0.1], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]]
        gold_of = (1, 2, 0)
        learnt = [[truth[gold_of[i]][gold_of[j]] for j in range(3)] for i in range(3)]
        plans = [sure([names[g] for g in row], 3) for row in self.GOLD]
        wrong = [sure([0] * 6, 3)] * 2
        chunks = chunks_of(plans, wrong, self.GOLD, learnt)
        found = plan_recovery(chunks, true_transition=torch.tensor(truth)).transition
        assert found.mean == pytest.approx(0, abs=1e-7)
        assert found.largest == pytest.approx(0, abs=1e-7)

    def test_a_model_that_cannot_miss_its_plans(self, device):
        """State k says id k alone, and a chunk's targets are all of one id: its gold label, by another name."""
        model = build_model(V1Config(num_plan_states=3, chunk_size=4, token_dim=4, hidden_dim=4, fusion_dim=4), 3)
        model = model.to(device=device, dtype=torch.float64)
        with torch.no_grad():
            model.head.out_proj.weight.zero_()
            model.head.plan_vocab_bias.copy_(20 * torch.eye(3))
            model.planner.context_proj.weight.zero_()
        plan = torch.tensor([[0, 1, 1, 2], [2, 0, 2, 1]])
        ids = plan.repeat_interleave(4, dim=1).to(device)
        batch = TokenBatch(ids, ids, torch.tensor([16, 16], device=device))
        labels = (ids.cpu() + 1) % 3
        found = plan_recovery(read_gold_chunks(model, [LabelledBatch(batch, labels)]))
        assert found.filtered.normalized_mutual_info == pytest.approx(1)
        assert found.smoothed.accuracy == 1
        assert found.smoothed.matching == (1, 2, 0)


class TestTransitionDistance:
    TRUTH = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.6, 0.4], [0.5, 0.0, 0.5]], dtype=torch.float64)

    def test_a_known_distance(self):
        learnt = torch.tensor([[0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
        truth = torch.tensor([[0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
        found = matched_transition_distance(learnt.log(), torch.tensor([1, 0]), truth)
        assert found.rows == (pytest.approx(0.0), pytest.approx(0.1))
        assert (found.mean, found.largest) == (pytest.approx(0.05), pytest.approx(0.1))

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_names_do_not_matter(self, order):
        order = torch.tensor(order)
        renamed = self.TRUTH[order][:, order]
        found = matched_transition_distance(renamed.log(), order, self.TRUTH)
        assert found.largest == pytest.approx(0, abs=1e-12)

    def test_what_left_over_states_get_is_a_mistake_and_they_have_no_row(self):
        learnt = torch.tensor(
            [[0.5, 0.2, 0.3, 0.0], [0.1, 0.6, 0.0, 0.3], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0]],
            dtype=torch.float64,
        )
        found = matched_transition_distance(learnt.log(), torch.tensor([0, 1, -1, 2]), self.TRUTH)
        # Row 0: |0.5 - 0.7| + |0.2 - 0.3| + |0 - 0| + 0.3 left over; and so on, halved.
        assert found.rows == (
            pytest.approx((0.2 + 0.1 + 0.0 + 0.3) / 2),
            pytest.approx((0.1 + 0.0 + 0.1 + 0.0) / 2),
            None,
            pytest.approx((0.5 + 0.0 + 0.5) / 2),
        )
        assert found.mean == pytest.approx((0.3 + 0.1 + 0.5) / 3)

    def test_labels_without_a_state_are_never_reached(self):
        learnt = torch.tensor([[0.7, 0.3], [0.0, 1.0]], dtype=torch.float64)
        found = matched_transition_distance(learnt.log(), torch.tensor([0, 1]), self.TRUTH)
        assert found.rows == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.4))

    @pytest.mark.parametrize("matching", [[0, 1], [0, 0, 1], [0, 1, 3], [-1, -1, -1]])
    def test_a_matching_that_is_none(self, matching):
        with pytest.raises(ValueError, match=r"^matching must give the 3 states labels from 0 to 2, none twice, or -1"):
            matched_transition_distance(self.TRUTH.log(), torch.tensor(matching), self.TRUTH)

    def test_tables_that_are_not_square(self):
        with pytest.raises(ValueError, match=r"^transitions must be square"):
            matched_transition_distance(self.TRUTH.log()[:2], torch.tensor([0, 1]), self.TRUTH)
