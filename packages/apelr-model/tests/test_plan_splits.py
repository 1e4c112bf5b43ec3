"""Plan states that are worth nothing: what a state is worth, which ones are copied, and copies taken back."""

import math

import pytest
import torch

from apelr_model import (
    CheckpointError,
    DenseHeadConfig,
    MixtureOfSoftmaxesConfig,
    OptimConfig,
    TokenBatch,
    Trainer,
    TransformerConfig,
    V2Config,
    V2LossWeights,
    build_model,
)
from apelr_model.batch_statistics import read_batch
from apelr_model.objective import loss_terms
from apelr_model.plan_splits import PlanRecord, PlanSplits

SIZES = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 6, "hidden_dim": 8, "num_layers": 1}
DENSE = V2Config(**SIZES)


def make_trainer(config, device, *, interval=2, steps=20):
    torch.manual_seed(0)
    model = build_model(config, 11).to(device)
    optim = OptimConfig(max_steps=steps, warmup_steps=0, lr=1e-2, split_interval=interval)
    return Trainer(model, optim, V2LossWeights())


def record(worth, nll):
    """K states of equal usage of which each costs `worth` more under any other, at `nll` under itself."""
    count = len(worth)
    own = -torch.tensor(nll, dtype=torch.float64) / count
    scores = own.unsqueeze(1) - torch.tensor(worth, dtype=torch.float64).unsqueeze(1).repeat(1, count)
    scores.diagonal().copy_(own)
    return PlanRecord(scores, torch.full((count,), 1 / count, dtype=torch.float64))


def two_plans(seed):
    """64 rows of 16 targets: in chunks of the plan 0 the ids 1 to 5, in those of 1 the ids 6 to 10; and the plans."""
    draw = torch.Generator().manual_seed(seed)
    chunk = (torch.arange(16) + 1) // 4  # V2's chunks: the first has one target less
    plans = torch.randint(0, 2, (64, 5), generator=draw)[:, chunk]
    targets = 1 + 5 * plans + torch.randint(0, 5, (64, 16), generator=draw)
    return TokenBatch(torch.zeros_like(targets), targets, torch.full((64,), 16)), plans


@pytest.fixture
def look(device):
    """What a look at a record does: the splits, and the trainer."""

    def look(found, *, step=4, trainer=None):
        if trainer is None:
            trainer = make_trainer(V2Config(**{**SIZES, "num_plan_states": len(found.usage)}), device)
        trainer.splits.record = found
        return trainer.splits.after(step, trainer.optimizer, trainer.carried), trainer

    return look


class TestScores:
    def test_are_sums_of_belief_times_log_probability(self, device, make_batch):
        trainer = make_trainer(DENSE, device)
        batch = make_batch([9, 4, 12])
        found = read_batch(trainer.model, batch)
        terms = loss_terms(trainer.model, batch, trainer.weights, with_scores=True)
        beliefs, seen = found.log_belief_after.exp().tolist(), found.state_log_probs.tolist()
        expected = [
            [math.fsum(b[i] * each[j] for b, each in zip(beliefs, seen, strict=True)) / 25 for j in range(3)]
            for i in range(3)
        ]
        torch.testing.assert_close(terms.scores.cpu(), torch.tensor(expected, dtype=torch.float64))
        assert loss_terms(trainer.model, batch, trainer.weights).scores is None

    def test_micro_batches_add_up(self, device, make_batch):
        whole, parts = (make_trainer(DENSE, device) for _ in range(2))
        parts.optim = OptimConfig(max_steps=20, warmup_steps=0, lr=1e-2, split_interval=2, grad_accum_steps=3)
        for trainer in (whole, parts):
            trainer.train_step(make_batch([9, 4, 12]))
        for found, expected in zip(parts.splits.record, whole.splits.record, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)

    def test_a_step_leaves_most_of_the_means(self, device):
        splits = make_trainer(DENSE, device).splits
        usage = torch.full((3,), 1 / 3, dtype=torch.float64)
        for value in (-1.0, -2.0, -3.0):
            splits.see(torch.full((3, 3), value, dtype=torch.float64), usage)
        assert splits.record.scores[0, 0].item() == pytest.approx(0.95 * (0.95 * -1 + 0.05 * -2) + 0.05 * -3)

    def test_a_step_without_finite_scores_is_left_out(self, device):
        splits = make_trainer(DENSE, device).splits
        splits.see(torch.full((3, 3), -math.inf, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64))
        assert splits.record is None


class TestPlanRecord:
    def test_costs_and_excess_by_hand(self):
        """Two states with half the text each, at 2 and 3 nats."""
        found = PlanRecord(
            torch.tensor([[-1.0, -1.4], [-1.75, -1.5]], dtype=torch.float64),
            torch.tensor([0.5, 0.5], dtype=torch.float64),
        )
        expected = torch.tensor([[math.inf, 0.4], [0.25, math.inf]], dtype=torch.float64)
        torch.testing.assert_close(found.costs(), expected)
        torch.testing.assert_close(found.excess(), torch.tensor([0.0, 0.5], dtype=torch.float64))

    def test_a_state_of_no_usage_sets_no_measure(self):
        """Its NLL is a mean over nothing: 1 nat, where the states that are used need 2 and 3."""
        usage = torch.tensor([0.5, 0.499, 0.001], dtype=torch.float64)
        scores = torch.diag(-usage * torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64))
        expected = torch.tensor([0.0, 0.499, 0.0], dtype=torch.float64)
        torch.testing.assert_close(PlanRecord(scores, usage).excess(), expected)


class TestLook:
    def test_the_least_worthy_state_becomes_a_copy_of_the_worst_predicted(self, look):
        (split,), trainer = look(record([0.2, 0.001, 0.3, 0.2], [2.0, 2.4, 2.1, 2.3]))
        assert (split.state, split.copy_of) == (1, 3), "not of itself, whose NLL is the highest"
        assert split.worth == pytest.approx(0.001)
        assert trainer.splits.record is None, "what was measured is of other states"
        assert trainer.splits.state.twins.tolist() == [-1, 3, -1, 1]
        assert not trainer.splits.state.tried.any()

    def test_no_state_is_copied_twice_and_no_idle_one_at_all(self, look):
        splits, _ = look(record([0.0, 0.001, 0.002, 0.003, 4.0, 5.0], [2.0, 2.1, 2.2, 2.9, 2.4, 2.5]))
        assert [(each.state, each.copy_of) for each in splits] == [(0, 5), (1, 4)]

    def test_among_states_that_are_predicted_alike_it_is_the_most_used(self, look):
        found = record([0.2, 0.2, 0.3, 0.001], [2.0, 2.0, 2.0, 2.0])
        usage = torch.tensor([0.3, 0.35, 0.34, 0.01], dtype=torch.float64)
        scores = found.scores - found.scores.diagonal().unsqueeze(1) - 2 * usage.unsqueeze(1)
        (split,), _ = look(PlanRecord(scores, usage))
        assert (split.state, split.copy_of) == (3, 1)

    @pytest.mark.parametrize(
        ("worth", "why"),
        [
            ([0.2, 0.05, 0.3, 0.2], "all are worth something"),
            ([-0.2, -0.001, 0.3, -0.2], "plans have not parted: most states are worth nothing"),
            ([-0.2, -0.001, -0.3, -0.2], "nor here"),
        ],
    )
    def test_otherwise_nothing_changes(self, look, device, worth, why):
        splits, trainer = look(record(worth, [2.0, 2.4, 2.1, 2.3]))
        assert splits == (), why
        fresh = make_trainer(V2Config(**{**SIZES, "num_plan_states": 4}), device).model.state_dict()
        assert all(torch.equal(fresh[name], value) for name, value in trainer.model.state_dict().items())

    @pytest.mark.parametrize(("step", "looks"), [(3, False), (4, True), (10, True), (12, False)])
    def test_looks_come_at_the_interval_in_the_first_half(self, look, step, looks):
        splits, trainer = look(record([0.2, 0.001, 0.3], [2.0, 2.4, 2.1]), step=step)
        assert bool(splits) == looks
        assert (trainer.splits.record is None) == looks

    def test_a_copy_that_is_idle_again_is_taken_back_and_its_source_not_tried_again(self, look):
        worth, nll = [0.2, 0.001, 0.3], [2.0, 2.4, 2.2]
        (first,), trainer = look(record(worth, nll))
        (second,), _ = look(record(worth, nll), step=6, trainer=trainer)
        assert (first.copy_of, second.copy_of) == (2, 0)
        assert trainer.splits.state.tried.tolist() == [False, False, True]
        (third,), _ = look(record(worth, nll), step=8, trainer=trainer)
        assert (third.state, third.copy_of) == (1, None)
        planner = trainer.model.planner
        assert planner.log_initial()[1] < -9
        assert (planner.log_transition()[:, 1] < -9).all()
        assert look(record(worth, nll), step=10, trainer=trainer)[0] == (), "out of use it stays"

    def test_without_a_chain_of_plans(self):
        message = "split_interval must be 0: mixture_of_softmaxes has no chain of plans"
        with pytest.raises(ValueError, match=message):
            PlanSplits(build_model(MixtureOfSoftmaxesConfig(num_plan_states=3), 11), 10, 100)


class TestTraining:
    def test_two_plans_that_share_a_state_part(self, device):
        """At the start both are state 0's, and without splits nothing ever comes to state 1."""
        sizes = {**SIZES, "num_plan_states": 2, "head": DenseHeadConfig(init_spread=0.1)}
        config = V2Config(**sizes, boundary_evidence=False, executor=TransformerConfig(num_heads=2, window=1))
        right = {}
        for interval in (0, 50):
            trainer = make_trainer(config, device, interval=interval, steps=150)
            with torch.no_grad():
                trainer.model.planner.initial_logits.copy_(torch.tensor([15.0, -15.0]))
                trainer.model.planner.transition_logits.copy_(torch.tensor([[15.0, -15.0], [15.0, -15.0]]))
            for step in range(150):
                batch, plans = two_plans(step)
                trainer.train_step(batch.to(device))
            belief = read_batch(trainer.model.eval(), batch.to(device)).log_belief_after.view(*plans.shape, 2)
            states = belief[:, 2::4].argmax(-1).cpu()  # after the last target of each chunk
            agree = (states == plans[:, 2::4]).double().mean().item()
            right[interval] = max(agree, 1 - agree)
        assert right[0] < 0.7
        assert right[50] > 0.95

    def test_a_resumed_run_makes_the_same_splits(self, device, make_batch):
        whole, first, second = (make_trainer(DENSE, device, interval=4) for _ in range(3))

        def steps(trainer, numbers):
            return [trainer.train_step(make_batch([9, 7, 12], seed=step)) for step in numbers]

        reports = steps(whole, range(8))
        steps(first, range(6))
        assert set(first.state_dict()["splits"]) == {"scores", "usage", "twins", "tried"}
        second.load_state_dict(first.state_dict())
        assert steps(second, range(6, 8)) == reports[6:]
        assert torch.equal(second.model.head.weight, whole.model.head.weight)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("usage", torch.zeros(4, dtype=torch.float64)),
            ("usage", torch.zeros(3, dtype=torch.float64)),
            ("usage", torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)),
            ("scores", torch.full((3, 3), math.nan, dtype=torch.float64)),
            ("scores", torch.zeros(3, 3)),
            ("twins", torch.tensor([0, 1, 3])),
            ("twins", None),
            ("tried", torch.zeros(3)),
            ("other", torch.zeros(3)),
        ],
    )
    def test_a_state_that_does_not_fit_is_refused(self, device, make_batch, name, value):
        trainer, other = (make_trainer(DENSE, device, interval=4) for _ in range(2))
        trainer.train_step(make_batch([9, 7, 12]))
        state = trainer.state_dict()
        other.load_state_dict(state)
        state["splits"][name] = value
        with pytest.raises(CheckpointError, match="what its plan states are worth does not fit the model"):
            other.load_state_dict(state)
        fresh = make_trainer(DENSE, device, interval=4)
        fresh.load_state_dict(state, restore_rng=False)
        assert fresh.splits.record is None, "a new run measures anew"
