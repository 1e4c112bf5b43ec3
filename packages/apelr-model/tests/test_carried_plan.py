"""Beliefs that go on from row to row: the same as one long row wherever the executor sees one id alone."""

import copy

import pytest
import torch

from apelr_model import (
    NoLossWeights,
    OptimConfig,
    PlanPolicy,
    TokenBatch,
    Trainer,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    evaluate,
    mean_nll,
    planner_diagnostics,
)
from apelr_model.batch_statistics import read_batch, read_batches
from apelr_model.carried_plan import CarriedPlan
from apelr_model.executor_config import TransformerConfig

STEPS = 8
SHORT_SIGHTED = {
    "executor": TransformerConfig(num_heads=2, window=1, mlp_dim=12),
    "hidden_dim": 8,
    "num_layers": 1,
}
"""An executor that begins afresh loses nothing: it sees the newest id alone."""


@pytest.fixture(params=[V1Config, V2Config])
def kind(request):
    return request.param


@pytest.fixture
def long_rows(make_batch):
    return make_batch([3 * STEPS] * 4, seed=3)


def pieces(batch, continues=(False, True, True)):
    """The rows of `batch` in pieces of STEPS, and whether each goes on."""
    for number, going_on in enumerate(continues):
        here = slice(number * STEPS, (number + 1) * STEPS)
        rows = len(batch.lengths)
        yield TokenBatch(
            batch.inputs[:, here],
            batch.targets[:, here],
            batch.lengths.new_full((rows,), STEPS),
            continues=torch.full((rows,), going_on, device=batch.inputs.device),
        )


def test_pieces_that_go_on_are_one_long_row(make_model, kind, long_rows):
    model = make_model(kind=kind, **SHORT_SIGHTED)
    with torch.no_grad():
        whole = read_batch(model, long_rows).reading.filtered
        parts = [found.reading.filtered for found in read_batches(model, pieces(long_rows))]
    for name in ("token_log_prob", "log_belief", "log_belief_after", "log_gate"):
        joined = torch.cat([getattr(part, name) for part in parts], dim=1)
        torch.testing.assert_close(joined, getattr(whole, name), rtol=0, atol=1e-12)
    with torch.no_grad():
        afresh = [found.token_nll for found in read_batches(model, pieces(long_rows, (False, False, False)))]
    assert (torch.cat(afresh).sum() + whole.token_log_prob.sum()).abs() > 1e-3


def test_evaluations_carry_the_belief(make_model, kind, long_rows):
    model = make_model(kind=kind, **SHORT_SIGHTED)
    wanted = evaluate(model, [long_rows])
    found = evaluate(model, pieces(long_rows))
    assert found.nll == pytest.approx(wanted.nll, abs=1e-12)
    assert found.plan_mi == pytest.approx(wanted.plan_mi, abs=1e-12)
    assert mean_nll(model, pieces(long_rows)).nll == pytest.approx(wanted.nll, abs=1e-12)
    policy = PlanPolicy(freeze_after=5)
    frozen = mean_nll(model, [long_rows], policy=policy).nll
    assert mean_nll(model, pieces(long_rows), policy=policy).nll == pytest.approx(frozen, abs=1e-12)


def test_diagnostics_carry_the_belief(make_model, kind, long_rows):
    """Also those that the belief would have been: what is forgotten at boundaries stays so in the rows after them."""
    model = make_model(kind=kind, **SHORT_SIGHTED)
    whole, found = planner_diagnostics(model, [long_rows]), planner_diagnostics(model, pieces(long_rows))
    afresh = planner_diagnostics(model, pieces(long_rows, (False, False, False)))
    for name in (
        "nll",
        "planner_mask_delta_loss",
        "shuffled_belief_delta_loss",
        "frozen_delta_loss",
        "boundary_reset_delta_loss",
        "evidence_off_delta_loss",
        "plan_mi",
        "belief_entropy",
    ):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1e-12), name
        assert getattr(afresh, name) != pytest.approx(getattr(whole, name), abs=1e-4), name


def test_rests_of_chunks_are_no_chunk_starts(make_model, kind, long_rows):
    """Chunks of 3 in rows of 8: the second and third row begin with the rest of one."""
    model = make_model(kind=kind, chunk_size=3, **SHORT_SIGHTED)
    whole, found = planner_diagnostics(model, [long_rows]), planner_diagnostics(model, pieces(long_rows))
    for name in ("boundary_entropy", "expert_utilization", "boundary_reset_delta_loss", "evidence_off_delta_loss"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1e-12), name
    assert [state.usage for state in found.states] == pytest.approx([state.usage for state in whole.states], abs=1e-12)


def test_a_row_that_begins_stands_beside_rows_that_go_on(make_model, kind, long_rows):
    model = make_model(kind=kind, **SHORT_SIGHTED)
    first, second, _ = pieces(long_rows)
    mixed = second._replace(continues=torch.tensor([True, False, True, False], device=second.inputs.device))
    with torch.no_grad():
        one, two = read_batches(model, [first, mixed])
        alone, whole = read_batch(model, second), read_batch(model, long_rows)
    found = two.reading.filtered.token_log_prob
    torch.testing.assert_close(found[1::2], alone.reading.filtered.token_log_prob[1::2])
    torch.testing.assert_close(found[::2], whole.reading.filtered.token_log_prob[::2, STEPS : 2 * STEPS])
    assert torch.equal(one.reading.log_initial[0], one.reading.log_initial[1])


def test_fewer_rows_may_go_on_but_not_more(make_model, make_batch):
    model = make_model(kind=V2Config)
    carried = CarriedPlan()
    going_on = make_batch([4, 4, 4])._replace(continues=torch.ones(3, dtype=torch.bool))
    assert carried.before(model.planner, going_on) is None  # nothing has been read yet
    found = read_batch(model, going_on)
    carried.keep_after(going_on, [found.reading.state.plan])
    two = make_batch([4, 4])._replace(continues=torch.ones(2, dtype=torch.bool))
    assert len(carried.before(model.planner, two).position) == 2
    four = make_batch([4] * 4)._replace(continues=torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"^4 rows cannot go on from the 3 rows of the batch before$"):
        carried.before(model.planner, four)


WEIGHTS = {
    V1Config: V1LossWeights(entropy_reg_weight=0.1, chunk_bow_weight=0.1, chunk_post_kl_weight=0.1),
    V2Config: V2LossWeights(boundary_entropy=0.1),
}


def trainer(make_model, kind, **optim):
    model = make_model(kind=kind, dtype=torch.float64, **SHORT_SIGHTED)
    return Trainer(model, OptimConfig(lr=1e-2, warmup_steps=0, **optim), WEIGHTS[kind])


def test_training_carries_beliefs_without_gradient(make_model, kind, long_rows):
    found = trainer(make_model, kind)
    losses = [found.train_step(batch).terms["nll"] for batch in pieces(long_rows)]
    assert not found.carried.state.log_belief.requires_grad
    assert found.carried.state.position.tolist() == [3 * STEPS] * 4
    afresh = trainer(make_model, kind)
    plain = [afresh.train_step(batch._replace(continues=None)).terms["nll"] for batch in pieces(long_rows)]
    assert losses[0] == plain[0]
    assert losses[1] != plain[1]
    assert afresh.carried.state is None


def test_micro_batches_carry_their_own_rows(make_model, kind, long_rows):
    whole, parts = trainer(make_model, kind), trainer(make_model, kind, grad_accum_steps=3)
    for batch in pieces(long_rows):
        one, many = whole.train_step(batch), parts.train_step(batch)
        assert many.loss == pytest.approx(one.loss, abs=1e-9)
    torch.testing.assert_close(parts.carried.state, whole.carried.state)


def test_a_run_taken_up_goes_on_with_its_plans(make_model, kind, long_rows):
    first = trainer(make_model, kind)
    one, two, three = pieces(long_rows)
    first.train_step(one)
    first.train_step(two)
    state = copy.deepcopy(first.state_dict())
    wanted = first.train_step(three)
    second = trainer(make_model, kind)
    second.load_state_dict(state)
    assert second.train_step(three) == wanted
    third = trainer(make_model, kind)
    third.load_state_dict(state, restore_rng=False)
    assert third.carried.state is None


def test_a_stored_plan_that_does_not_fit_is_refused(make_model, kind, long_rows):
    first = trainer(make_model, kind)
    first.train_step(next(pieces(long_rows)))
    state = first.state_dict()
    for wrong in ({"log_belief": 1}, [], {**state["carried"], "log_belief": state["carried"]["log_belief"][:, :2]}):
        with pytest.raises(ValueError, match="the plans that rows go on with"):
            trainer(make_model, kind).load_state_dict({**state, "carried": wrong})


def test_controls_have_nothing_to_carry(make_model, version, long_rows):
    if version in (V1Config, V2Config):
        return
    model = make_model(kind=version)
    plain = [batch._replace(continues=None) for batch in pieces(long_rows)]
    assert evaluate(model, pieces(long_rows)).nll == evaluate(model, plain).nll
    Trainer(model, OptimConfig(), NoLossWeights()).train_step(next(pieces(long_rows)))
