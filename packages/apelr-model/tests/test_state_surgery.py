"""Copies of plan states and states out of use: what is the same, what is shared, and what is left alone."""

import math

import pytest
import torch

from apelr_model import (
    FactorizedHeadConfig,
    OptimConfig,
    Trainer,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    build_model,
    state_surgery,
)
from apelr_model.batch_statistics import read_batch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.state_surgery import copy_state, retire_state

SIZES = {"num_plan_states": 4, "chunk_size": 4, "token_dim": 6, "hidden_dim": 8, "num_layers": 1}
VERSIONS = {
    "v1": V1Config(**SIZES, fusion_dim=6),
    "dense": V2Config(**SIZES),
    "factorized": V2Config(**SIZES, head=FactorizedHeadConfig(rank=2, init_std=0.5), future_horizon_chunks=1),
    "no evidence": V2Config(**SIZES, boundary_evidence=False),
    "two states": V2Config(**{**SIZES, "num_plan_states": 2}),
}
UNTRAINED = ("planner.recognizer.weight", "planner.recognizer.bias", "planner.plan_state_emb.weight")
"""Parameters that only loss terms without a weight would train."""


@pytest.fixture(params=VERSIONS)
def trainer(request, device, make_batch):
    """A trainer of each kind of model that has made two steps, so that its optimizer has moments; random chains."""
    torch.manual_seed(0)
    config = VERSIONS[request.param]
    model = build_model(config, 11).to(device=device, dtype=torch.float64)
    with torch.no_grad():
        model.planner.initial_logits.normal_()
        model.planner.transition_logits.normal_()
    weights = V1LossWeights() if isinstance(config, V1Config) else V2LossWeights()
    trainer = Trainer(model, OptimConfig(max_steps=9, warmup_steps=0, lr=1e-2), weights)
    for step in range(2):
        trainer.train_step(make_batch([9, 7, 12], seed=step))
    return trainer


def copy(trainer, source=1, target=0):
    copy_state(trainer.model, trainer.optimizer, source, target, torch.Generator().manual_seed(1))


class TestCopy:
    def test_without_noise_it_predicts_as_its_source(self, trainer, make_batch, monkeypatch):
        """By every head, and by the evidence at boundaries; what the other states say has not changed."""
        monkeypatch.setattr(state_surgery, "NOISE", 0.0)
        batch = make_batch([9, 7, 12], seed=5)
        before = read_batch(trainer.model.eval(), batch)
        copy(trainer)
        after = read_batch(trainer.model, batch)
        seen = after.state_log_probs
        torch.testing.assert_close(seen[:, 0], seen[:, 1])
        torch.testing.assert_close(seen[:, 1:], before.state_log_probs[:, 1:])
        assert not torch.allclose(seen[:, 0], before.state_log_probs[:, 0])
        evidence = after.reading.evidence
        if evidence is not None:
            torch.testing.assert_close(evidence[..., 0], evidence[..., 1])

    def test_it_takes_nothing_from_the_others(self, trainer, make_batch, monkeypatch):
        """Where the target was out of use and there is no noise, no text is more or less likely than before."""
        monkeypatch.setattr(state_surgery, "NOISE", 0.0)
        planner = trainer.model.planner
        with torch.no_grad():
            planner.initial_logits[0] = -60.0
            planner.transition_logits[:, 0] = -60.0
        batch = make_batch([9, 7, 12], seed=5)
        before = read_batch(trainer.model.eval(), batch)
        copy(trainer)
        after = read_batch(trainer.model, batch)
        torch.testing.assert_close(after.token_nll, before.token_nll)
        torch.testing.assert_close(after.log_belief_after[:, 2:], before.log_belief_after[:, 2:])
        torch.testing.assert_close(after.log_belief_after[:, 0], after.log_belief_after[:, 1])

    def test_between_the_two_the_chain_moves_as_to_any_third(self, trainer):
        planner, count = trainer.model.planner, trainer.model.num_plan_states
        with torch.no_grad():
            planner.transition_logits.copy_(4.0 * torch.eye(count))
            planner.transition_logits[:, 0] = -60.0
        copy(trainer)
        moves = planner.log_transition().exp()
        torch.testing.assert_close(moves[0, 1], moves[1, 0])
        torch.testing.assert_close(moves[0, 0], moves[1, 1])
        torch.testing.assert_close(moves[0, 1], moves.new_tensor(1 / 9) if count == 2 else moves[1, 2])

    def test_moments_are_copied_and_noise_is_on_the_head_alone(self, trainer):
        parameters, count = dict(trainer.model.named_parameters()), trainer.model.num_plan_states
        noisy = {id(p) for p in trainer.model.head.state_parameters()}
        owned = noisy | {id(p) for p in trainer.model.planner.state_parameters()}
        before = {name: p.detach().clone() for name, p in parameters.items()}
        copy(trainer)
        for name, parameter in parameters.items():
            if id(parameter) not in owned:
                assert name == "planner.transition_logits" or torch.equal(parameter, before[name]), name
                continue
            blocks, old = parameter.detach().view(count, -1), before[name].view(count, -1)
            assert torch.equal(blocks[2:], old[2:]), name
            distance = blocks[0] - old[1]
            if id(parameter) in noisy:
                parts = old if count == 2 else torch.cat([old[1:2], old[1:]])
                spread = 0.3 * (parts - parts.mean(0)).std()
                assert spread > 0, name
                assert 0.4 * spread < distance.pow(2).mean().sqrt() < 1.6 * spread, name
            elif name == "planner.initial_logits":
                torch.testing.assert_close(distance, torch.full_like(distance, -math.log(2)))
            else:
                assert torch.equal(blocks[0], old[1]), name
            moments = trainer.optimizer.state.get(parameter)  # none where no loss term has reached it
            assert moments is not None or name in UNTRAINED
            for moment in ("exp_avg", "exp_avg_sq") if moments else ():
                of_states = moments[moment].view(count, -1)
                assert torch.equal(of_states[0], of_states[1]), (name, moment)
        assert all(trainer.optimizer.state.values()), "no empty entries: a checkpoint with one is refused"


def test_what_is_retired_is_its_heirs(trainer):
    planner = trainer.model.planner
    initial, moves = planner.log_initial().detach(), planner.log_transition().detach()
    retire_state(trainer.model, 0, 1)
    for before, after in ((initial, planner.log_initial()), (moves, planner.log_transition())):
        torch.testing.assert_close(after[..., 2:], before[..., 2:], rtol=0, atol=1e-4)
        heir = torch.logaddexp(before[..., 0], before[..., 1])
        torch.testing.assert_close(after[..., 1], heir, rtol=0, atol=1e-4)
        torch.testing.assert_close(after[..., 0], after[..., 1] - 10)


def test_a_carried_belief_follows(trainer):
    state = trainer.model.planner.initial_state(2)
    carried = CarriedPlan(state._replace(log_belief=state.log_belief.detach().clone()))
    before = state.log_belief.exp()
    carried.hand_over(0, 1)
    torch.testing.assert_close(carried.state.log_belief.exp()[:, 1], before[:, 0] + before[:, 1])
    assert (carried.state.log_belief[:, 0] == -math.inf).all()
    carried.share(1, 0)
    half = (before[:, 0] + before[:, 1]) / 2
    torch.testing.assert_close(carried.state.log_belief.exp()[:, :2], torch.stack([half, half], dim=1))
    nothing = CarriedPlan()
    nothing.hand_over(0, 1)
    nothing.share(1, 0)
    assert nothing.state is None
