"""Plan states that are worth nothing: what a state is worth, which ones are copied, and what a copy is."""

import math

import pytest
import torch

from apelr_model import (
    CheckpointError,
    FactorizedHeadConfig,
    MixtureOfSoftmaxesConfig,
    OptimConfig,
    Trainer,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    build_model,
)
from apelr_model import plan_splits as module
from apelr_model.batch_statistics import read_batch
from apelr_model.objective import loss_terms
from apelr_model.plan_splits import PlanRecord, PlanSplits

SIZES = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 6, "hidden_dim": 8, "num_layers": 1}
VERSIONS = {
    "v1": V1Config(**SIZES, fusion_dim=6),
    "dense": V2Config(**SIZES),
    "factorized": V2Config(**SIZES, head=FactorizedHeadConfig(rank=2, init_std=0.5), future_horizon_chunks=1),
    "no evidence": V2Config(**SIZES, boundary_evidence=False),
}

UNTRAINED = ("planner.recognizer.weight", "planner.recognizer.bias", "planner.plan_state_emb.weight")
"""Parameters that only loss terms without a weight would train."""


def make_trainer(config, device, *, interval=2, steps=20):
    torch.manual_seed(0)
    model = build_model(config, 11).to(device)
    weights = V1LossWeights() if isinstance(config, V1Config) else V2LossWeights()
    return Trainer(model, OptimConfig(max_steps=steps, warmup_steps=0, lr=1e-2, split_interval=interval), weights)


def record(worth, nll):
    """K states of equal usage of which each costs `worth` more under any other, at `nll` under itself."""
    count = len(worth)
    own = -torch.tensor(nll, dtype=torch.float64) / count
    scores = own.unsqueeze(1) - torch.tensor(worth, dtype=torch.float64).unsqueeze(1).repeat(1, count)
    scores.diagonal().copy_(own)
    return PlanRecord(scores, torch.full((count,), 1 / count, dtype=torch.float64))


@pytest.fixture(params=VERSIONS)
def trainer(request, device, make_batch):
    """A trainer of each kind of head that has made two steps, so that its optimizer has moments."""
    trainer = make_trainer(VERSIONS[request.param], device, interval=1000)
    for step in range(2):
        trainer.train_step(make_batch([9, 7, 12], seed=step))
    return trainer


class TestScores:
    def test_are_sums_of_belief_times_log_probability(self, device, make_batch):
        trainer = make_trainer(VERSIONS["dense"], device)
        batch = make_batch([9, 4, 12])
        found = read_batch(trainer.model, batch)
        terms = loss_terms(trainer.model, batch, trainer.weights, with_scores=True)
        belief, seen = found.log_belief_after.exp().tolist(), found.state_log_probs.tolist()
        expected = [
            [math.fsum(b[i] * each[j] for b, each in zip(belief, seen, strict=True)) / 25 for j in range(3)]
            for i in range(3)
        ]
        torch.testing.assert_close(terms.scores.cpu(), torch.tensor(expected, dtype=torch.float64))
        assert loss_terms(trainer.model, batch, trainer.weights).scores is None

    def test_micro_batches_add_up(self, device, make_batch):
        whole, parts = (make_trainer(VERSIONS["dense"], device) for _ in range(2))
        parts.optim = OptimConfig(max_steps=20, warmup_steps=0, lr=1e-2, split_interval=2, grad_accum_steps=3)
        for trainer in (whole, parts):
            trainer.train_step(make_batch([9, 4, 12]))
        torch.testing.assert_close(whole.splits.record.scores, parts.splits.record.scores, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(whole.splits.record.usage, parts.splits.record.usage, rtol=1e-6, atol=1e-6)


class TestPlanRecord:
    def test_costs_and_excess_by_hand(self):
        """Two states with half the text each: NLL 2 and 3; state 1's text costs 0.5 nats a token more under state 0."""
        found = PlanRecord(
            torch.tensor([[-1.0, -1.4], [-1.75, -1.5]], dtype=torch.float64),
            torch.tensor([0.5, 0.5], dtype=torch.float64),
        )
        torch.testing.assert_close(
            found.costs(), torch.tensor([[math.inf, 0.4], [0.25, math.inf]], dtype=torch.float64)
        )
        torch.testing.assert_close(found.excess(), torch.tensor([0.0, 0.5], dtype=torch.float64))

    def test_a_state_of_no_usage_sets_no_measure(self):
        """Its NLL is a mean over nothing: 1 nat, where the states that are used need 2 and 3."""
        usage = torch.tensor([0.5, 0.499, 0.001], dtype=torch.float64)
        scores = torch.diag(-usage * torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64))
        torch.testing.assert_close(
            PlanRecord(scores, usage).excess(), torch.tensor([0.0, 0.499, 0.0], dtype=torch.float64)
        )


class TestWhatIsSplit:
    def after(self, device, found, *, step=4, interval=2):
        trainer = make_trainer(V2Config(**{**SIZES, "num_plan_states": len(found.usage)}), device, interval=interval)
        trainer.splits.record = found
        return trainer.splits.after(step, trainer.optimizer), trainer

    def test_the_least_worthy_state_becomes_a_copy_of_the_worst_predicted(self, device):
        (split,), trainer = self.after(device, record([0.2, 0.001, 0.3, 0.2], [2.0, 2.4, 2.1, 2.3]))
        assert split[0] == 1, "the state that is given up"
        assert split.worth == pytest.approx(0.001)
        assert split.copy_of == 3, "not state 1 itself, whose NLL is the highest"
        assert trainer.splits.record is None, "what was measured is of other states"

    def test_each_state_is_copied_once_and_half_of_them_go_at_most(self, device):
        worth = [0.0, 0.001, 0.002, 0.003, 0.004, 5.0]
        splits, _ = self.after(device, record(worth, [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]))
        assert [(each.state, each.copy_of) for each in splits] == [(0, 5), (1, 4), (2, 3)]

    def test_among_states_that_are_predicted_alike_it_is_the_most_used(self, device):
        found = record([0.2, 0.2, 0.3, 0.001], [2.0, 2.0, 2.0, 2.0])
        usage = torch.tensor([0.3, 0.35, 0.34, 0.01], dtype=torch.float64)
        scores = found.scores - found.scores.diagonal().unsqueeze(1) - 2 * usage.unsqueeze(1)
        (split,), _ = self.after(device, PlanRecord(scores, usage))
        assert (split.state, split.copy_of) == (3, 1)

    def test_where_all_are_worth_something_nothing_changes(self, device):
        splits, trainer = self.after(device, record([0.2, 0.05, 0.3, 0.2], [2.0, 2.4, 2.1, 2.3]))
        assert splits == ()
        fresh = make_trainer(V2Config(**{**SIZES, "num_plan_states": 4}), device).model.state_dict()
        assert all(torch.equal(fresh[name], value) for name, value in trainer.model.state_dict().items())

    @pytest.mark.parametrize(("step", "looks"), [(3, False), (4, True), (10, True), (12, False)])
    def test_looks_come_at_the_interval_in_the_first_half(self, device, step, looks):
        splits, trainer = self.after(device, record([0.2, 0.001, 0.3], [2.0, 2.4, 2.1]), step=step)
        assert bool(splits) == looks
        assert (trainer.splits.record is None) == looks

    def test_without_a_chain_of_plans(self, device):
        message = "split_interval must be 0: mixture_of_softmaxes has no chain of plans"
        with pytest.raises(ValueError, match=message):
            PlanSplits(build_model(MixtureOfSoftmaxesConfig(num_plan_states=3), 11), 10, 100)


class TestTheCopy:
    def test_without_noise_it_is_the_same_plan(self, trainer, make_batch, monkeypatch):
        """Both states say the same of every text, by every head; nothing of the others has moved."""
        monkeypatch.setattr(module, "NOISE", 0.0)
        batch = make_batch([9, 7, 12], seed=5)
        before = read_batch(trainer.model.eval(), batch)
        trainer.splits._copy(2, 0, trainer.optimizer, torch.Generator())
        after = read_batch(trainer.model, batch)
        seen = after.state_log_probs
        torch.testing.assert_close(seen[:, 0], seen[:, 2])
        torch.testing.assert_close(seen[:, 1:], before.state_log_probs[:, 1:])
        assert not torch.allclose(seen[:, 0], before.state_log_probs[:, 0])
        evidence = after.reading.evidence
        if evidence is not None:
            torch.testing.assert_close(evidence[..., 0], evidence[..., 2])
        initial = trainer.model.planner.log_initial()
        torch.testing.assert_close(initial[0], initial[2])

    def test_moments_are_copied_and_noise_is_on_the_head_alone(self, trainer):
        parameters = dict(trainer.model.named_parameters())
        owned = {id(p) for p in (*trainer.model.head.state_parameters(), *trainer.model.planner.state_parameters())}
        before = {name: p.detach().clone() for name, p in parameters.items()}
        trainer.splits._copy(2, 0, trainer.optimizer, torch.Generator().manual_seed(1))
        noisy = {id(p) for p in trainer.model.head.state_parameters()}
        for name, parameter in parameters.items():
            if id(parameter) not in owned:
                assert name == "planner.transition_logits" or torch.equal(parameter, before[name])
                continue
            blocks, old = parameter.view(3, -1), before[name].view(3, -1)
            assert torch.equal(blocks[1:], old[1:]), name
            distance = (blocks[0] - old[2]).std().item() if blocks.shape[1] > 1 else 0.0
            copied = torch.cat([old[2:], old[1:]])
            spread = (copied - copied.mean(0)).std().item()  # smaller than that of three states of which two are equal
            assert distance == 0 if id(parameter) not in noisy else 0.05 * spread < distance < 0.6 * spread, name
            moments = trainer.optimizer.state.get(parameter)  # none where no loss term has reached it
            assert moments is not None or name in UNTRAINED
            for moment in ("exp_avg", "exp_avg_sq") if moments else ():
                of_states = moments[moment].view(3, -1)
                assert torch.equal(of_states[0], of_states[2]), (name, moment)

    def test_moves(self):
        """State 3 becomes a copy of state 1."""
        values = torch.arange(16.0).view(4, 4)
        module._copy_moves(values, 1, 3)
        between = (4 + 6 + 7) / 3
        expected = [[0, 1, 2, 1], [4, 5, 6, between], [8, 9, 10, 9], [4, between, 6, 5]]
        torch.testing.assert_close(values, torch.tensor(expected))


class TestTraining:
    def test_a_dead_state_lives_after_a_look(self, device, make_batch):
        """Two kinds of rows; nothing ever comes to state 1, until it is a copy of the state that has both."""
        config = V2Config(**{**SIZES, "num_plan_states": 2}, boundary_evidence=False)
        usage = {}
        for interval in (0, 10):
            trainer = make_trainer(config, device, interval=interval, steps=60)
            with torch.no_grad():
                trainer.model.planner.initial_logits.copy_(torch.tensor([30.0, -30.0]))
                trainer.model.planner.transition_logits.copy_(torch.tensor([[30.0, -30.0], [-30.0, 30.0]]))
            reports = [trainer.train_step(make_batch([12, 12, 12], seed=step)) for step in range(60)]
            usage[interval] = reports[-1].usage[1]
        assert usage[0] < 1e-6
        assert usage[10] > 0.05

    def test_a_resumed_run_makes_the_same_splits(self, device, make_batch):
        """Between two looks the means are part of the state; a record of other sizes is refused."""
        whole, first, second = (make_trainer(VERSIONS["dense"], device, interval=4) for _ in range(3))

        def steps(trainer, numbers):
            return [trainer.train_step(make_batch([9, 7, 12], seed=step)) for step in numbers]

        reports = steps(whole, range(8))
        steps(first, range(6))
        second.load_state_dict(first.state_dict())
        assert steps(second, range(6, 8)) == reports[6:]
        assert torch.equal(second.model.head.weight, whole.model.head.weight)
        state = first.state_dict()
        assert state["splits"]["scores"].shape == (3, 3)
        state["splits"]["usage"] = torch.zeros(4, dtype=torch.float64)
        with pytest.raises(CheckpointError, match="what its plan states are worth does not fit the model"):
            second.load_state_dict(state)
        second.load_state_dict(state, restore_rng=False)
        assert second.splits.record is None
