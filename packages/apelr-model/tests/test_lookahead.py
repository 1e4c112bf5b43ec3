"""Forecasts by powers of P, and the queue that makes them beside the tokens."""

import math

import pytest
import torch

from apelr_model import PlanForecast, forecast
from apelr_model.lookahead import ForecastQueue, forecast_by_powers, transition_powers


def chain(states, seed=0, spread=2.0):
    draw = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(states, states, generator=draw, dtype=torch.float64)
    belief = spread * torch.randn(5, states, generator=draw, dtype=torch.float64)
    return logits.log_softmax(-1), belief.log_softmax(-1)


@pytest.mark.parametrize("steps", [1, 2, 7, 300])
@pytest.mark.parametrize("states", [1, 2, 8])
def test_forecasts_by_powers_are_those_of_one_boundary_after_another(device, states, steps):
    log_transition, log_belief = (tensor.to(device) for tensor in chain(states))
    found = forecast_by_powers(log_belief, transition_powers(log_transition, steps))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, forecast(log_belief, log_transition, steps).exp(), rtol=0, atol=1e-12)


def test_zero_probabilities_are_zero_and_float32_logits_do():
    log_transition = torch.tensor([[0.0, -math.inf], [math.log(0.5), math.log(0.5)]])
    powers = transition_powers(log_transition, 3)
    assert powers.dtype == torch.float64
    found = forecast_by_powers(torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]], dtype=torch.float64), powers)
    assert found[0].tolist() == [[1, 0]] * 3
    assert found[1, :, 1].tolist() == pytest.approx([0.5, 0.25, 0.125])


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"^steps must be >= 1, got 0$"):
        transition_powers(torch.zeros(2, 2), 0)


def test_a_queue_gives_every_forecast_once_in_order_with_its_tag(device):
    log_transition, log_belief = (tensor.to(device) for tensor in chain(3))
    powers = transition_powers(log_transition, 2)
    queue = ForecastQueue(powers)
    assert list(queue.take()) == []
    queue.begin(log_belief[:2], [4, 7], [10, 20], [1, 2])
    queue.begin(log_belief[2:], [4, 7, 9], [11, 21, 30], [1, 3, 3])
    found = list(queue.take())
    assert list(queue.take()) == []
    assert [event[:3] for event in found] == [(4, 10, 1), (7, 20, 2), (4, 11, 1), (7, 21, 3), (9, 30, 3)]
    assert all(isinstance(event, PlanForecast) for event in found)
    wanted = forecast_by_powers(log_belief, powers)
    for event, expected in zip(found, wanted.tolist(), strict=True):
        assert event.probabilities == tuple(tuple(step) for step in expected)
