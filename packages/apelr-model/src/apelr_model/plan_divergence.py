"""How far apart the plan states' token distributions are: Jensen-Shannon divergence between every two of them.

JS(p || q) = H((p + q) / 2) - (H(p) + H(q)) / 2 = 1/2 sum_v p log(p / m) + 1/2 sum_v q log(q / m), m = (p + q) / 2, in
nats: 0 for equal distributions, log 2 for disjoint ones. All K (K - 1) / 2 pairs are taken in slices of tokens; within
a slice a loop runs over j - i.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from apelr_model.belief import to_filter_dtype
from apelr_model.emissions import state_log_probs
from apelr_model.head import Head
from apelr_model.slices import in_slices, slice_limit, slice_rows

__all__ = ["mean_of_pairs", "pairwise_js_sums", "plan_js_div"]


def plan_js_div(head: Head, hidden: Tensor) -> Tensor:
    """hidden [N, D] -> mean over the pairs i < j of JS(p(. | h, z = i) || p(. | h, z = j)) [N], in nats.

    The loss term is its mean over tokens; it adds up over micro-batches. With one state it is 0.
    """

    def one_slice(hidden: Tensor) -> Tensor:
        found: Tensor = _MeanOfPairs.apply(state_log_probs(head, hidden))  # type: ignore[no-untyped-call]
        return found

    return in_slices(one_slice, head.logits_per_token, hidden)


@torch.no_grad()
def pairwise_js_sums(head: Head, hidden: Tensor) -> Tensor:
    """hidden [N, D] -> sum over tokens of JS between states i and j, [K, K] float64, symmetric, without gradient.

    Divided by the number of tokens (of all batches) it is the matrix of mean divergences.
    """
    totals: list[Tensor] = []
    width = head.logits_per_token
    for part in slice_rows(len(hidden), width, slice_limit(width)):
        log_probs, probs = _held_normal(state_log_probs(head, hidden[part]))
        num_states = log_probs.shape[1]
        matrix = to_filter_dtype(log_probs.new_zeros(num_states, num_states))
        for distance in range(1, num_states):
            first, second = slice(0, num_states - distance), slice(distance, num_states)
            log_middle = _log_middle(probs[:, first], probs[:, second])
            one_way = (probs[:, first] * (log_probs[:, first] - log_middle)).sum(-1)
            other_way = (probs[:, second] * (log_probs[:, second] - log_middle)).sum(-1)
            divergence = to_filter_dtype(one_way + other_way).sum(0) / 2
            matrix.diagonal(distance).copy_(divergence)
            matrix.diagonal(-distance).copy_(divergence)
        totals.append(matrix)
    return torch.stack(totals).sum(0)


def mean_of_pairs(matrix: Tensor) -> Tensor:
    """matrix [K, K], symmetric -> mean of its entries above the diagonal; 0 with one state."""
    num_states = len(matrix)
    return matrix.triu(1).sum() / max(1, num_states * (num_states - 1) // 2)


def _held_normal(log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """log_probs [n, K, V] -> log-probabilities and probabilities, none below the dtype's smallest normal number.

    p log p is 0 there to every digit, and no logarithm is minus infinity.
    """
    log_probs = log_probs.clamp(min=math.log(torch.finfo(log_probs.dtype).tiny))
    return log_probs, log_probs.exp()


def _log_middle(p: Tensor, q: Tensor) -> Tensor:
    """p [n, k, V], q [n, k, V] -> log((p + q) / 2) [n, k, V]."""
    return (p + q).log_().sub_(math.log(2))


class _MeanOfPairs(torch.autograd.Function):
    """log_probs [n, K, V] -> mean over i < j of JS_ij [n].

    d JS_ij / d log p_i(v) = 1/2 p_i(v) log(p_i(v) / m_ij(v)), and JS_ij is the sum of these over v and over both
    states: one pass over the pairs gives value and gradient, and keeps no tensor of a pair.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor) -> Tensor:
        log_probs, probs = _held_normal(log_probs)
        num_states = log_probs.shape[1]
        ratios = log_probs.mul_(num_states - 1)  # sum over the other states j of log(p_i / m_ij)
        for distance in range(1, num_states):
            first, second = slice(0, num_states - distance), slice(distance, num_states)
            log_middle = _log_middle(probs[:, first], probs[:, second])
            ratios[:, first] -= log_middle
            ratios[:, second] -= log_middle
        shares = probs.mul_(ratios).div_(max(1, num_states * (num_states - 1)))
        ctx.save_for_backward(shares)
        return shares.sum((1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (shares,) = ctx.saved_tensors
        of_log_probs: Tensor = shares * gradient.view(-1, 1, 1)
        return of_log_probs
