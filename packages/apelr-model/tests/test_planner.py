"""The filtered chain of plans: distributions, evidence, and single steps through boundaries."""

import math

import pytest
import torch

from apelr_model import ChunkRule, PlanPolicy, condition, cross_boundary
from apelr_model.planner import FilterPlanner
from apelr_model.policy import EXACT


def make_planner(device, *, offset=0, **changes):
    torch.manual_seed(0)
    sizes = {"num_plan_states": 3, "hidden_dim": 4, "context_scale": 0.5, "self_bias": 2.0, "boundary_evidence": True}
    chunks = ChunkRule(chunk_size=3, offset=offset)
    planner = FilterPlanner(**{**sizes, "summary": "last_state", "chunks": chunks, **changes})
    return planner.double().to(device).eval()


def state_at(planner, positions):
    """Random beliefs and sums at the given positions."""
    state = planner.initial_state(len(positions))
    belief = torch.randn_like(state.log_belief).log_softmax(-1)
    sums = torch.randn_like(state.chunk_sum)
    return state._replace(log_belief=belief, position=state.position.new_tensor(positions), chunk_sum=sums)


def test_a_fresh_plan_starts_anywhere_and_prefers_to_stay(device):
    planner = make_planner(device)
    torch.testing.assert_close(planner.log_initial().exp(), torch.full((3,), 1 / 3, dtype=torch.float64).to(device))
    move = planner.log_transition().exp()
    torch.testing.assert_close(move.sum(-1), torch.ones(3, dtype=torch.float64, device=device))
    torch.testing.assert_close(move.diagonal() / move[0, 1], torch.full_like(move[0], 2.0).exp())


def test_rows_of_the_transition_sum_to_one_whatever_the_logits(device):
    planner = make_planner(device)
    with torch.no_grad():
        planner.transition_logits.normal_(std=20)
    torch.testing.assert_close(planner.log_transition().exp().sum(1), torch.ones(3, dtype=torch.float64, device=device))


def test_evidence_is_the_scaled_projection(device):
    planner = make_planner(device)
    hidden = torch.randn(2, 5, 4, dtype=torch.float64, device=device)
    wanted = 0.5 * (hidden @ planner.context_proj.weight.T + planner.context_proj.bias)
    torch.testing.assert_close(planner.evidence(hidden), wanted)


@pytest.mark.parametrize("summary", ["last_state", "chunk_mean"])
def test_without_boundary_evidence_there_is_none(device, summary):
    planner = make_planner(device, boundary_evidence=False, summary=summary)
    assert planner.evidence(torch.zeros(2, 4, device=device)) is None
    assert not any("context" in name for name, _ in planner.named_parameters())
    assert planner.initial_state(2).chunk_sum.shape == (2, 0)


def test_a_fresh_state_is_the_initial_distribution_at_position_0(device):
    planner = make_planner(device, summary="chunk_mean")
    state = planner.initial_state(2)
    torch.testing.assert_close(state.log_belief, planner.log_initial().expand(2, -1))
    assert state.position.tolist() == [0, 0]
    assert state.chunk_sum.tolist() == [[0.0] * 4] * 2
    assert make_planner(device).initial_state(2).chunk_sum.shape == (2, 0)


@pytest.mark.parametrize("evidence", [True, False])
def test_enter_crosses_at_boundaries_and_nowhere_else(device, evidence):
    """V1's rule: chunks of 3 targets, evidence from the state just read."""
    planner = make_planner(device, boundary_evidence=evidence)
    state = state_at(planner, [3, 4, 6, 0])
    hidden = torch.randn(4, 4, dtype=torch.float64, device=device)
    entered, log_gate = planner.enter(state, hidden, EXACT)
    crossed = cross_boundary(state.log_belief, planner.log_transition(), planner.evidence(hidden))
    torch.testing.assert_close(entered.log_belief[[0, 2]], crossed[[0, 2]])
    torch.testing.assert_close(entered.log_belief[[1, 3]], state.log_belief[[1, 3]], rtol=0, atol=0)
    assert torch.equal(log_gate, entered.log_belief)
    assert entered.position.tolist() == [3, 4, 6, 0]


def test_enter_takes_the_mean_of_the_chunk_just_completed(device):
    """V2's rule: the boundary falls where an input completes its chunk; the sum then starts again at zero."""
    planner = make_planner(device, summary="chunk_mean", offset=1)
    state = state_at(planner, [2, 3, 5, 0])
    hidden = torch.randn(4, 4, dtype=torch.float64, device=device)
    entered, _ = planner.enter(state, hidden, EXACT)
    evidence = planner.evidence((state.chunk_sum + hidden) / 3)
    crossed = cross_boundary(state.log_belief, planner.log_transition(), evidence)
    torch.testing.assert_close(entered.log_belief[[0, 2]], crossed[[0, 2]])
    torch.testing.assert_close(entered.log_belief[[1, 3]], state.log_belief[[1, 3]], rtol=0, atol=0)
    assert not entered.chunk_sum[[0, 2]].any()
    torch.testing.assert_close(entered.chunk_sum[[1, 3]], (state.chunk_sum + hidden)[[1, 3]])


def test_a_frozen_belief_crosses_no_boundary_and_learns_nothing(device):
    planner = make_planner(device)
    state = state_at(planner, [3, 6, 9])
    hidden = torch.randn(3, 4, dtype=torch.float64, device=device)
    seen = torch.randn(3, 3, dtype=torch.float64, device=device)
    policy = PlanPolicy(freeze_after=6)
    entered, _ = planner.enter(state, hidden, policy)
    after = planner.observe(entered, seen, policy)
    assert not torch.equal(entered.log_belief[0], state.log_belief[0])
    assert torch.equal(entered.log_belief[1:], state.log_belief[1:])
    torch.testing.assert_close(after.log_belief[0], condition(entered.log_belief[0], seen[0]))
    assert torch.equal(after.log_belief[1:], state.log_belief[1:])
    assert after.position.tolist() == [4, 7, 10]


def test_without_token_filtering_only_boundaries_move_the_belief(device):
    planner = make_planner(device)
    state = state_at(planner, [3])
    policy = PlanPolicy(token_filtering=False)
    entered, _ = planner.enter(state, torch.randn(1, 4, dtype=torch.float64, device=device), policy)
    assert not torch.equal(entered.log_belief, state.log_belief)
    after = planner.observe(entered, torch.randn(1, 3, dtype=torch.float64, device=device), policy)
    assert torch.equal(after.log_belief, entered.log_belief)
    assert after.position.tolist() == [4]


def test_enter_gives_the_gate_of_the_policy(device):
    planner = make_planner(device)
    state = state_at(planner, [1, 1])
    hidden = torch.zeros(2, 4, dtype=torch.float64, device=device)
    _, uniform = planner.enter(state, hidden, PlanPolicy(mode="uniform"))
    torch.testing.assert_close(uniform, torch.full_like(uniform, -math.log(3)))
    _, forced = planner.enter(state, hidden, PlanPolicy(force_state=2))
    assert forced.exp().tolist() == [[0.0, 0.0, 1.0]] * 2
    _, sharp = planner.enter(state, hidden, PlanPolicy(temperature=0.5))
    torch.testing.assert_close(sharp, (2 * state.log_belief).log_softmax(-1))


def test_evidence_stays_in_float32_under_autocast(device):
    planner = make_planner(device).float()
    hidden = torch.randn(2, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = planner.evidence(hidden.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, planner.evidence(hidden.bfloat16().float()))
