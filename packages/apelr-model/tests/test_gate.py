"""Gates: forecasts fed back, temperature and interventions, in logarithms and in probabilities."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import PlanPolicy, forecast
from apelr_model.gate import feedback_matrix, gate_weights, log_gate

TRANSITION = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.3, 0.3, 0.4]], dtype=torch.float64).log()
BELIEFS = torch.tensor(
    [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.25, 0.75], [1e-30, 1e-200, 1.0]], dtype=torch.float64
).log()


@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_feedback_is_the_mean_of_the_forecasts(device, horizon, scale):
    moved = BELIEFS.to(device).exp() @ feedback_matrix(TRANSITION.to(device), horizon, scale)
    ahead = forecast(BELIEFS.to(device), TRANSITION.to(device), horizon).exp().mean(-2)
    torch.testing.assert_close(moved, (1 - scale) * BELIEFS.to(device).exp() + scale * ahead)
    torch.testing.assert_close(moved.sum(-1), torch.ones_like(moved[:, 0]))


@pytest.mark.parametrize("horizon", [*range(1, 18), 100])
def test_the_matrix_is_the_plain_sum_of_powers(device, horizon):
    power = total = move = TRANSITION.exp()
    for _ in range(horizon - 1):
        power = power @ move
        total = total + power
    wanted = 0.3 * torch.eye(3, dtype=torch.float64) + 0.7 * total / horizon
    found = feedback_matrix(TRANSITION.to(device), horizon, 0.7).cpu()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_compiled_code_can_follow_one_horizon_after_the_other():
    """The compiler asks no longer for the number itself once it has changed."""
    compiled = torch.compile(feedback_matrix, backend="eager", fullgraph=True)
    for horizon in (1, 2, 3, 6):
        torch.testing.assert_close(compiled(TRANSITION, horizon, 0.5), feedback_matrix(TRANSITION, horizon, 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("horizon", [10**6, 10**12, 10**18, 2**62])
def test_far_horizons_keep_rows_that_sum_to_one(device, horizon, dtype):
    """And tend to the stationary distribution, which is worked by hand for a chain of two."""
    for seed in range(5):
        logits = 3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = feedback_matrix(logits.log_softmax(-1).to(device=device, dtype=dtype), horizon, 1.0)
        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[0]), rtol=0, atol=1e-14)
        torch.testing.assert_close(found, found[:1].expand(6, 6), rtol=0, atol=1e-4)
    pair = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=dtype, device=device).log()
    moved = feedback_matrix(pair, horizon, 1.0).cpu()
    torch.testing.assert_close(moved, torch.tensor([[2 / 3, 1 / 3]] * 2, dtype=moved.dtype), rtol=0, atol=1e-5)


def test_each_chunk_ahead_counts_alike(device):
    """(1 / H) (b P + b P^2), worked by hand for two states that always change places."""
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64, device=device).log()
    start = torch.tensor([1.0, 0.0], dtype=torch.float64, device=device).log()
    for horizon, wanted in ((1, [0.4, 0.6]), (2, [0.7, 0.3]), (3, [0.6, 0.4])):
        policy = PlanPolicy(feedback_scale=0.6, lookahead_horizon=horizon)
        assert log_gate(start, swap, policy).exp().tolist() == pytest.approx(wanted)


@settings(max_examples=60)
@given(
    temperature=st.sampled_from((1.0, 0.3, 2.5)),
    horizon=st.integers(1, 4),
    scale=st.sampled_from((0.0, 0.4, 1.0)),
)
def test_the_formula(device, temperature, horizon, scale):
    policy = PlanPolicy(temperature=temperature, lookahead_horizon=horizon, feedback_scale=scale)
    move = TRANSITION.exp()
    powers = [torch.linalg.matrix_power(move, s) for s in range(1, horizon + 1)]
    mix = [(1 - scale) * b + scale / horizon * sum(b @ power for power in powers) for b in BELIEFS.exp()]
    raised = torch.stack(mix) ** (1 / temperature)
    wanted = raised / raised.sum(-1, keepdim=True)
    found = log_gate(BELIEFS.to(device), TRANSITION.to(device), policy)
    torch.testing.assert_close(found.exp().cpu(), wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        gate_weights(BELIEFS.exp().to(device), TRANSITION.to(device), policy).cpu(), wanted, rtol=0, atol=1e-12
    )


def test_the_belief_itself_where_the_policy_says_no_more(device):
    for policy in (PlanPolicy(), PlanPolicy(lookahead_horizon=3), PlanPolicy(freeze_after=2, token_filtering=False)):
        assert log_gate(BELIEFS, TRANSITION, policy) is BELIEFS
        assert gate_weights(BELIEFS, TRANSITION, policy) is BELIEFS


def test_a_temperature_keeps_tiny_weights_apart(device):
    """In logarithms, e^-900 and e^-2000 are still two things."""
    belief = torch.tensor([0.0, -900.0, -2000.0], dtype=torch.float64, device=device)
    found = log_gate(belief, TRANSITION.to(device), PlanPolicy(temperature=2.0))
    torch.testing.assert_close(found, belief / 2, rtol=1e-12, atol=1e-100)


def test_uniform_and_forced_gates_do_not_look_at_the_belief(device):
    for beliefs in (BELIEFS, BELIEFS.flip(0), torch.full_like(BELIEFS, -math.inf)):
        uniform = log_gate(beliefs.to(device), TRANSITION.to(device), PlanPolicy(mode="uniform"))
        torch.testing.assert_close(uniform.exp().cpu(), torch.full_like(BELIEFS, 1 / 3))
        forced = log_gate(beliefs.to(device), TRANSITION.to(device), PlanPolicy(force_state=1))
        assert forced.exp().tolist() == [[0.0, 1.0, 0.0]] * 4
    weights = gate_weights(BELIEFS.exp().to(device), TRANSITION.to(device), PlanPolicy(force_state=1))
    assert weights.tolist() == [[0.0, 1.0, 0.0]] * 4


def test_an_intervention_wins_over_temperature_and_feedback(device):
    policy = PlanPolicy(force_state=0, temperature=0.1, feedback_scale=0.9)
    assert log_gate(BELIEFS.to(device), TRANSITION.to(device), policy).exp().tolist() == [[1.0, 0.0, 0.0]] * 4


@pytest.mark.parametrize("gate", [log_gate, gate_weights])
def test_a_state_that_is_not_there(device, gate):
    with pytest.raises(ValueError, match=r"^force_state must be between 0 and 2, got 3$"):
        gate(BELIEFS.to(device), TRANSITION.to(device), PlanPolicy(force_state=3))


def test_an_impossible_past_stays_impossible(device):
    nothing = torch.full((2, 3), -math.inf, dtype=torch.float64, device=device)
    for policy in (PlanPolicy(temperature=0.5), PlanPolicy(feedback_scale=0.5)):
        assert bool((log_gate(nothing, TRANSITION.to(device), policy) == -math.inf).all())


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.5}, {"feedback_scale": 0.4}, {"temperature": 2.0, "feedback_scale": 1.0}]
)
def test_gradients_are_finite_also_at_probability_zero(device, fields):
    policy = PlanPolicy(**fields)
    belief = BELIEFS.to(device).clone().requires_grad_()
    (log_gate(belief, TRANSITION.to(device), policy).exp() * torch.arange(3, device=device)).sum().backward()
    assert bool(torch.isfinite(belief.grad).all())
    weights = BELIEFS.exp().to(device).clone().requires_grad_()
    (gate_weights(weights, TRANSITION.to(device), policy) * torch.arange(3, device=device)).sum().backward()
    assert bool(torch.isfinite(weights.grad).all())


def test_with_feedback_probabilities_have_a_gradient_where_the_belief_is_zero(device):
    """d gate / d b is a row of the matrix, whatever b is."""
    belief = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, device=device, requires_grad=True)
    policy = PlanPolicy(feedback_scale=0.5, lookahead_horizon=2)
    gate_weights(belief, TRANSITION.to(device), policy)[2].backward()
    wanted = feedback_matrix(TRANSITION, 2, 0.5)[:, 2]
    torch.testing.assert_close(belief.grad.cpu(), wanted)
