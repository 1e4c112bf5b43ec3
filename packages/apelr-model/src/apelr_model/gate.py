"""From beliefs to gates: pure functions of tensors (docs/math.md)."""

import math

import torch
from torch import Tensor

from apelr_model.belief import log_normalize, safe_log, to_filter_dtype
from apelr_model.policy import PlanPolicy

__all__ = ["feedback_matrix", "gate_weights", "log_gate"]


def feedback_matrix(log_transition: Tensor, horizon: int, scale: float) -> Tensor:
    """log_transition [K, K] -> probabilities [K, K]: (1 - scale) I + scale / horizon * sum of P^s, s = 1 ... horizon.

    A belief times this matrix is the mixture of belief and forecasts that the gate is made from. Rows sum to one
    for any horizon.
    """
    transition = _rows_to_one(to_filter_dtype(log_transition).exp())
    power, total = transition, transition
    for is_odd in _doublings(horizon):  # m terms and their last power -> 2 m, or 2 m + 1
        total = total + power @ total
        power = _rows_to_one(power @ power)  # squaring doubles what rounding adds to a row's sum
        if is_odd:
            power = _rows_to_one(power @ transition)
            total = total + power
    identity = torch.eye(len(transition), dtype=transition.dtype, device=transition.device)
    return (1 - scale) * identity + scale * _rows_to_one(total / horizon)


def _doublings(count: int) -> list[bool]:
    """The binary digits of `count` >= 1 after the first; by arithmetic, which compiled decoding can follow."""
    digits = []
    while count > 1:
        digits.append(count % 2 == 1)
        count //= 2
    return digits[::-1]


def _rows_to_one(matrix: Tensor) -> Tensor:
    """matrix [K, K] of weights >= 0 -> the same with rows that sum to one."""
    return matrix / matrix.sum(-1, keepdim=True)


def log_gate(log_belief: Tensor, log_transition: Tensor, policy: PlanPolicy) -> Tensor:
    """log_belief [..., K], log_transition [K, K] -> log-weights [..., K] of the plan states, normalised.

    Weights below e^-708 count as zero where forecasts are fed back. Raises ValueError where the state to force is
    not there.
    """
    if policy.gate_is_belief:
        return log_belief
    fixed = _fixed(log_belief, policy)
    if fixed is not None:
        return fixed
    if policy.feedback_scale != 0:
        matrix = feedback_matrix(log_transition, policy.lookahead_horizon, policy.feedback_scale)
        log_belief = safe_log(log_belief.exp() @ matrix)
    return log_normalize(log_belief / policy.temperature)


def gate_weights(belief: Tensor, log_transition: Tensor, policy: PlanPolicy) -> Tensor:
    """belief [..., K] (probabilities), log_transition [K, K] -> probabilities [..., K], linear in the belief.

    `log_gate` with gradients that reach states of probability zero (for a temperature above 1 they are taken as 0).
    """
    if policy.gate_is_belief:
        return belief
    fixed = _fixed(belief, policy)
    if fixed is not None:
        return fixed.exp()
    if policy.feedback_scale != 0:
        belief = belief @ feedback_matrix(log_transition, policy.lookahead_horizon, policy.feedback_scale)
    if policy.temperature == 1:
        return belief
    return log_normalize(safe_log(belief) / policy.temperature).exp()


def _fixed(belief: Tensor, policy: PlanPolicy) -> Tensor | None:
    """The log-gate that an intervention puts in the belief's place, in its shape; None without one."""
    num_states = belief.shape[-1]
    if policy.mode == "uniform":
        return torch.full_like(belief, -math.log(num_states))
    if policy.force_state is None:
        return None
    if policy.force_state >= num_states:
        raise ValueError(f"force_state must be between 0 and {num_states - 1}, got {policy.force_state}")
    forced = torch.full_like(belief, -math.inf)
    forced[..., policy.force_state] = 0.0
    return forced
