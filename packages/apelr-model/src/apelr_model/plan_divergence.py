"""How far apart the plan states' token distributions are: Jensen-Shannon divergence between every two of them.

JS(p || q) = H((p + q) / 2) - (H(p) + H(q)) / 2 = 1/2 sum_v p log(p / m) + 1/2 sum_v q log(q / m), m = (p + q) / 2, in
nats: 0 for equal distributions, log 2 for disjoint ones. All K (K - 1) / 2 pairs are taken in slices of tokens, with
a loop over the distance of the two states within each slice.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from apelr_model.emissions import state_log_probs
from apelr_model.filter import to_filter_dtype
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
        log_probs = state_log_probs(head, hidden[part])
        num_states = log_probs.shape[1]
        matrix = to_filter_dtype(log_probs.new_zeros(num_states, num_states))
        for distance, first, second, p, q in _pairs(log_probs):
            divergence = to_filter_dtype(((p * first).sum(-1) + (q * second).sum(-1)) / 2).sum(0)
            matrix.diagonal(distance).copy_(divergence)
            matrix.diagonal(-distance).copy_(divergence)
        totals.append(matrix)
    return torch.stack(totals).sum(0)


def mean_of_pairs(matrix: Tensor) -> Tensor:
    """matrix [K, K], symmetric -> mean of its entries above the diagonal; 0 with one state."""
    num_states = len(matrix)
    return matrix.triu(1).sum() / max(1, num_states * (num_states - 1) // 2)


def _pairs(log_probs: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
    """log_probs [n, K, V] -> for each distance d: d, log(p / m), log(q / m), p, q, each [n, K - d, V].

    p are the states 0 ... K - d - 1 and q the states d ... K - 1. m is never formed: log(p / m) =
    log 2 - log(1 + q / p), which is exact and finite at any gap.
    """
    # Two states that both exclude a token: minus infinity less minus infinity must be 0.
    log_probs = log_probs.clamp(min=torch.finfo(log_probs.dtype).min / 4)
    probs = log_probs.exp()
    num_states = log_probs.shape[1]
    for distance in range(1, num_states):
        kept = num_states - distance
        gap = log_probs[:, distance:] - log_probs[:, :kept]
        closer = math.log(2) - gap.abs().neg().exp().log1p()  # the larger of the two logarithms
        yield distance, closer - gap.clamp(min=0), closer + gap.clamp(max=0), probs[:, :kept], probs[:, distance:]


class _MeanOfPairs(torch.autograd.Function):
    """d JS(p || q) / d log p(v) = 1/2 p(v) log(p(v) / m(v)): remade in the backward pass, one distance at a time."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor) -> Tensor:
        ctx.save_for_backward(log_probs)
        total = log_probs.new_zeros(len(log_probs))
        for _, first, second, p, q in _pairs(log_probs):
            total += ((p * first).sum(-1) + (q * second).sum(-1)).sum(-1)
        return total / _twice_the_pairs(log_probs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (log_probs,) = ctx.saved_tensors
        of_log_probs = torch.zeros_like(log_probs)
        for distance, first, second, p, q in _pairs(log_probs):
            of_log_probs[:, : p.shape[1]] += p * first
            of_log_probs[:, distance:] += q * second
        return of_log_probs.mul_((gradient / _twice_the_pairs(log_probs)).view(-1, 1, 1))


def _twice_the_pairs(log_probs: Tensor) -> int:
    num_states = log_probs.shape[1]
    return max(1, num_states * (num_states - 1))
