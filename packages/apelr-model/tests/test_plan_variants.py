"""Other beliefs over the same emissions: the filter with other tables, and the long run of a chain."""

import math

import pytest
import torch

from apelr_model import PlanPolicy, V1Config, V2Config, build_model
from apelr_model.batch_statistics import read_batch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.plan_variants import refilter, stationary_distribution, swapped_rows, without_memory


def make(form, device, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = build_model(form(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7, **sizes), 11)
        with torch.no_grad():
            model.planner.initial_logits.normal_()
            model.planner.transition_logits.normal_()
            model.planner.context_proj.weight.normal_()
    return model.to(device=device, dtype=torch.float64).eval()


@pytest.mark.parametrize("form", [V1Config, V2Config])
@pytest.mark.parametrize("changes", [{}, {"freeze_after": 5}, {"temperature": 0.5, "feedback_scale": 0.3}])
@pytest.mark.parametrize("documents", [False, True])
def test_with_the_planners_own_tables_it_is_the_reading(device, make_batch, form, changes, documents):
    if form is V1Config and "temperature" in changes:
        changes = {"mode": "uniform"}
    model = make(form, device)
    batch = make_batch([11, 4, 8], width=11)
    if documents:
        clock = torch.arange(11).expand(3, -1).clone()
        clock[1, 2:] -= 2
        clock[2, 6:] -= 6
        batch = batch._replace(positions=clock.to(device))
    for policy in (PlanPolicy(**changes), PlanPolicy(token_filtering=form is V1Config, **changes)):
        with torch.no_grad():
            found = read_batch(model, batch, policy=policy)
            planner, reading = model.planner, found.reading
            again = refilter(
                planner,
                found,
                policy,
                log_transition=planner.log_transition(),
                evidence=reading.evidence,
                carried=CarriedPlan(),
            )
        valid = batch.valid.to(again.log_belief.device)
        for name in ("log_belief", "log_belief_after", "token_log_prob", "log_gate"):
            ours, theirs = getattr(again, name)[valid], getattr(reading.filtered, name)[valid]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("states", [2, 5])
def test_a_stationary_distribution_stays(states):
    draw = torch.Generator().manual_seed(states)
    log_transition = torch.randn(states, states, generator=draw, dtype=torch.float64).mul(3).log_softmax(-1)
    for seed in (0, 1):
        start = torch.randn(states, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
        found = stationary_distribution(log_transition, start)
        assert float(found.sum()) == pytest.approx(1, abs=1e-14)
        torch.testing.assert_close(found @ log_transition.double().exp(), found, rtol=0, atol=1e-12)


def test_known_stationary_distributions():
    """A slow chain, one that only ever swaps its two states, and one that never leaves a state."""
    slow = torch.tensor([[1 - 1e-9, 1e-9], [3e-9, 1 - 3e-9]], dtype=torch.float64).log()
    start = torch.tensor([0.5, 0.5]).log()
    assert stationary_distribution(slow, start).tolist() == pytest.approx([0.75, 0.25], abs=1e-6)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).log()
    assert stationary_distribution(swap, torch.tensor([1.0, 0.0]).log()).tolist() == pytest.approx([0.5, 0.5])
    stay = torch.eye(3).log()
    start = torch.tensor([0.2, 0.5, 0.3])
    assert stationary_distribution(stay, start.log()).tolist() == pytest.approx(start.tolist())


def test_transitions_without_memory_forget_where_they_come_from():
    log_transition = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64).log()
    found = without_memory(log_transition, torch.tensor([0.5, 0.5]).log()).exp()
    assert found.tolist() == [pytest.approx([0.75, 0.25]), pytest.approx([0.75, 0.25])]


def test_rows_are_swapped_with_the_row_half_a_batch_on():
    values = torch.arange(5.0).view(5, 1, 1).expand(5, 3, 1)
    lengths = torch.tensor([3, 1, 2, 3, 1])
    valid = torch.arange(3) < lengths.unsqueeze(1)
    swapped, both = swapped_rows(values, valid)
    assert swapped[:, 0, 0].tolist() == [2, 3, 4, 0, 1]
    assert both.sum(1).tolist() == [min(3, 2), min(1, 3), min(2, 1), min(3, 3), min(1, 1)]
    assert not swapped_rows(values[:1], valid[:1])[1].any()
    assert math.isclose(float(swapped_rows(values[:2], valid[:2])[0][0, 0, 0]), 1.0)
