"""Log-softmax of a linear layer at the targets alone, in slices, with a hand-written gradient.

The logits of all tokens are K times the size of an ordinary model's, and are needed twice: for the
log-likelihoods, and, once the filter has turned those into a loss, for their gradient. They are made a slice
of tokens at a time and made again in the backward pass, where they become their own gradient in place.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["SLICE_ELEMENTS", "linear_log_probs", "slice_rows"]

SLICE_ELEMENTS = 2**22
"""Logits (tokens x plan states x vocabulary) that one slice may hold: 16 MiB in float32."""


def slice_rows(num_tokens: int, elements_per_token: int, limit: int) -> Iterator[slice]:
    """The slices of 0 ... num_tokens - 1 that hold at most `limit` elements each, and at least one token."""
    size = max(1, limit // elements_per_token)
    for start in range(0, num_tokens, size):
        yield slice(start, min(start + size, num_tokens))


def linear_log_probs(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, limit: int) -> Tensor:
    """features [N, K, F], weight [V, F], bias [K, V], targets [N] -> log-probabilities [N, K] of the targets.

    log_softmax(features W^T + bias)[n, k, targets[n]], with at most `limit` logits at any time. Under autocast the
    products are in its dtype; sums over the vocabulary are in at least float32. Gradients of the first order only.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    bias = bias.to(torch.promote_types(bias.dtype, torch.float32))  # its dtype is that of all sums
    found: Tensor = _LinearLogProbs.apply(features, weight, bias, targets, limit)  # type: ignore[no-untyped-call]
    return found


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """features [n, K, F] -> logits [n, K, V] in the dtype of the bias, as a tensor of their own."""
    products = (features.flatten(0, 1) @ weight.T).unflatten(0, features.shape[:2])
    logits: Tensor = products.add_(bias) if products.dtype == bias.dtype else products + bias
    return logits


class _LinearLogProbs(torch.autograd.Function):
    """d l[n, k] / d logits[n, k] = onehot(target) - softmax(logits)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, limit: int) -> Tensor:
        log_probs = bias.new_empty(features.shape[:2])
        log_totals = bias.new_empty(features.shape[:2])
        with torch.autocast(features.device.type, enabled=False):
            for rows in slice_rows(len(features), bias.numel(), limit):
                logits = _logits(features[rows], weight, bias)
                chosen = logits.gather(-1, _index(targets[rows], len(bias))).squeeze(-1)
                peak = logits.amax(-1, keepdim=True)
                log_totals[rows] = logits.sub_(peak).exp_().sum(-1).log_() + peak.squeeze(-1)
                log_probs[rows] = chosen - log_totals[rows]
        ctx.save_for_backward(features, weight, bias, targets, log_totals)
        ctx.limit = limit
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, targets, log_totals = ctx.saved_tensors
        of_features = torch.empty_like(features)
        of_weight = torch.zeros_like(weight, dtype=bias.dtype)
        of_bias = torch.zeros_like(bias)
        with torch.autocast(features.device.type, enabled=False):
            for rows in slice_rows(len(features), bias.numel(), ctx.limit):
                scale = gradient[rows].unsqueeze(-1)
                logits = _logits(features[rows], weight, bias)
                of_logits = logits.sub_(log_totals[rows].unsqueeze(-1)).exp_().mul_(-scale)
                of_logits.scatter_add_(-1, _index(targets[rows], len(bias)), scale)
                of_bias += of_logits.sum(0)
                flat = of_logits.flatten(0, 1).to(weight.dtype)
                of_features[rows] = (flat @ weight).unflatten(0, of_logits.shape[:2])
                of_weight += flat.T @ features[rows].flatten(0, 1)
        return of_features, of_weight.to(weight.dtype), of_bias, None, None


def _index(targets: Tensor, num_states: int) -> Tensor:
    """targets [n] -> [n, K, 1], to gather from or scatter into [n, K, V]."""
    return targets.view(-1, 1, 1).expand(-1, num_states, 1)
