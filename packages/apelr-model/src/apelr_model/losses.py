"""The loss terms: pure functions of tensors, one per term. Formulas and signs: docs/math.md.

Means are given as sums divided by a count that the caller names, so that micro-batches add up to the
full batch's mean.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "belief_entropy",
    "chunk_cross_entropy",
    "kl_to_uniform",
    "state_persistence",
    "symmetric_kl",
]


def belief_entropy(log_belief: Tensor) -> Tensor:
    """log_belief [..., K] -> entropy [...] in nats; impossible states count 0."""
    return -(log_belief.exp() * log_belief.masked_fill(log_belief == -math.inf, 0.0)).sum(-1)


def kl_to_uniform(mean_belief: Tensor) -> Tensor:
    """mean_belief [K] (probabilities) -> KL(mean belief || uniform) in nats, 0 ... log K."""
    # A state of mass zero counts nothing; the logarithm of its mass would make the gradient NaN.
    log_mean = mean_belief.masked_fill(mean_belief == 0, 1.0).log()
    return math.log(mean_belief.shape[-1]) + (mean_belief * log_mean).sum(-1)


def symmetric_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """log_p [..., K], log_q [..., K] -> (KL(p || q) + KL(q || p)) / 2 in nats, [...]."""
    difference = torch.where(log_p == log_q, 0.0, log_p - log_q)
    return ((log_p.exp() - log_q.exp()) * difference).sum(-1) / 2


def chunk_cross_entropy(chunk_mixture: Tensor, targets: Tensor, group: Tensor) -> Tensor:
    """chunk_mixture [G, V] (probabilities), targets [N], group [N] -> cross-entropy [G] in nats.

    For each group: -sum_v histogram(v) log mixture(v), the histogram being that of the group's own targets.
    """
    chosen = chunk_mixture[group, targets].log()
    counts = torch.bincount(group, minlength=len(chunk_mixture)).clamp(min=1)
    return -chosen.new_zeros(len(chunk_mixture)).index_add(0, group, chosen) / counts


def state_persistence(states: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """states [B, C, K], valid [B, C] -> neighbouring chunk starts with the same most likely state, and all of them.

    Two counts; their ratio is the share of chunk boundaries at which the plan persists. `states` may be
    probabilities or their logarithms.
    """
    likeliest = states.argmax(-1)
    same = likeliest[:, 1:] == likeliest[:, :-1]
    counted = torch.ones_like(same) if valid is None else (valid[:, 1:] & valid[:, :-1]).to(same.device)
    return (same & counted).sum(), counted.sum()
