"""Beliefs and their arithmetic: pure functions of tensors, in log space, with no epsilon.

A belief is a normalised vector of log-probabilities over K plan states; minus infinity is zero. The recursion
(docs/math.md) has three parts, each written once and here: `condition` on an observed token, `cross_boundary`
into the next chunk, and `forecast` chunks that have not been reached.

Beliefs and their sums are float64 whatever comes in, because a float32 sum over a long chunk loses
tenths of a nat. Where the device has no float64 (MPS), the filter runs on the CPU and its results stay
there.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "condition",
    "cross_boundary",
    "forecast",
    "log_mean_state",
    "log_normalize",
    "log_sum_exp",
    "normalized",
    "safe_log",
    "to_filter_dtype",
]


def to_filter_dtype(tensor: Tensor) -> Tensor:
    """any [...] -> float64 [...], on the same device, or on the CPU where the device has no float64."""
    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.double()


def log_sum_exp(values: Tensor, dim: int) -> Tensor:
    """log-values [..., n, ...] -> log of their summed exponentials, without `dim`.

    Unlike `torch.logsumexp` its gradient is 0, not NaN, where every value is minus infinity.
    """
    peak = values.detach().amax(dim, keepdim=True)
    peak = peak.masked_fill(peak == -math.inf, 0.0)
    total = (values - peak).exp().sum(dim)
    empty = total == 0
    return (total.masked_fill(empty, 1.0).log() + peak.squeeze(dim)).masked_fill(empty, -math.inf)


def safe_log(probabilities: Tensor) -> Tensor:
    """probabilities [...] -> logarithms [...]; zero gives minus infinity, and the gradient 0 instead of NaN."""
    zero = probabilities == 0
    return probabilities.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf)


def log_normalize(log_weights: Tensor) -> Tensor:
    """log-weights [..., K] -> log-probabilities [..., K]; all-minus-infinity stays as it is."""
    return normalized(log_weights)[0]


def normalized(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """log-weights [..., K] -> log-probabilities [..., K], and the logarithm of the weights' sum [...].

    All-minus-infinity stays as it is, with gradient 0. Gradients of the first order only.
    """
    found: tuple[Tensor, Tensor] = _Normalized.apply(log_weights)  # type: ignore[no-untyped-call]
    return found


class _Normalized(torch.autograd.Function):
    """With p the probabilities: d / d w_k = g_k - p_k sum_j g_j of the first, p_k of the second."""

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        peak = log_weights.amax(-1, keepdim=True)
        peak = peak.masked_fill_(peak == -math.inf, 0.0)
        below = log_weights - peak
        weights = below.exp()
        sums = weights.sum(-1, keepdim=True)
        divisors = sums.masked_fill(sums == 0, 1.0)
        ctx.save_for_backward(weights, divisors)
        ctx.set_materialize_grads(False)
        return below.sub_(divisors.log()), sums.log_().add_(peak).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_probs: Tensor | None, of_total: Tensor | None) -> Tensor | None:
        weights, divisors = ctx.saved_tensors
        if of_probs is None:
            return None if of_total is None else weights * of_total.unsqueeze(-1).div(divisors)
        shared = of_probs.sum(-1, keepdim=True)
        if of_total is not None:
            shared -= of_total.unsqueeze(-1)
        return torch.addcmul(of_probs, weights, shared.div_(divisors), value=-1)


def condition(log_belief: Tensor, token_log_probs: Tensor) -> Tensor:
    """log_belief [..., K], token_log_probs [..., K] -> log_belief [..., K] after the observation.

    Bayes' rule: log b <- log_softmax(log b + l). `token_log_probs` may be the sum over several
    observations that share one plan state. An observation impossible under every plan that is still
    possible gives minus infinity everywhere.
    """
    return log_normalize(to_filter_dtype(log_belief) + to_filter_dtype(token_log_probs))


def cross_boundary(log_belief: Tensor, log_transition: Tensor, evidence: Tensor | None = None) -> Tensor:
    """log_belief [..., K], log_transition [K, K] (row: from, column: to) -> log_belief [..., K] in the next chunk.

    log b <- log_softmax(log(b P) + e), with e the boundary evidence [..., K] (log-weights; None is 0).
    The normaliser of the evidence is no probability of any token and never enters a likelihood.
    """
    log_joint = to_filter_dtype(log_belief).unsqueeze(-1) + to_filter_dtype(log_transition)
    log_next = log_sum_exp(log_joint, -2)
    return log_normalize(log_next if evidence is None else log_next + to_filter_dtype(evidence))


def forecast(log_belief: Tensor, log_transition: Tensor, steps: int) -> Tensor:
    """log_belief [..., K], log_transition [K, K] -> log-probabilities [..., steps, K] of b P^s, s = 1 ... steps.

    The exact lookahead: a prior over coming chunks that conditions on no text not yet produced.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    ahead = [cross_boundary(log_belief, log_transition)]
    while len(ahead) < steps:
        ahead.append(cross_boundary(ahead[-1], log_transition))
    return torch.stack(ahead, dim=-2)


def log_mean_state(log_belief: Tensor, state_log_probs: Tensor) -> Tensor:
    """log_belief [..., K], state_log_probs [..., K] or [..., K, V] -> mixture log-probabilities [...] or [..., V].

    log sum_k b(k) p(. | k), in the dtype and on the device of `log_belief` for a [..., K] argument and of
    `state_log_probs` for a [..., K, V] argument.
    """
    if state_log_probs.ndim == log_belief.ndim:
        return log_sum_exp(log_belief + to_filter_dtype(state_log_probs), -1)
    return log_sum_exp(log_belief.to(state_log_probs).unsqueeze(-1) + state_log_probs, -2)
