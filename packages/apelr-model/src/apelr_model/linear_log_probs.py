"""Log-softmax of a linear layer at the targets alone, in slices, with a hand-written gradient.

The logits of all tokens are K times the size of an ordinary model's, and are needed twice: for the
log-likelihoods, and, once the filter has turned those into a loss, for their gradient. They are made a slice
of tokens at a time, and made again in the backward pass.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from apelr_model.slices import slice_rows

__all__ = ["add_product", "biased_product", "linear_log_probs", "operands"]


def linear_log_probs(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, limit: int) -> Tensor:
    """features [N, K, F], weight [V, F], bias [K, V], targets [N] -> log-probabilities [N, K] of the targets.

    log_softmax(features W^T + bias)[n, k, targets[n]], with at most `limit` logits at any time. With features [N, D]
    and weight [K * V, D] every state has a weight of its own (`StateOutputs`). With several targets for each token,
    [N, M], the result is [N, M, K]. Under autocast the products are in its dtype; sums over the vocabulary are in at
    least float32. Gradients of the first order only.
    """
    features, weight = operands(features, weight)
    bias = bias.to(torch.promote_types(bias.dtype, torch.float32))  # its dtype is that of all sums
    found: Tensor = _LinearLogProbs.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, targets.view(len(targets), -1), limit
    )
    return found.squeeze(-1) if targets.ndim == 1 else found.transpose(1, 2)


def operands(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """features [..., D] and weight [M, D] in autocast's dtype where that is on: a Function does not see it."""
    device = features.device.type
    if not torch.is_autocast_enabled(device):
        return features, weight
    dtype = torch.get_autocast_dtype(device)
    return features.to(dtype), weight.to(dtype)


def biased_product(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """features [n, D], weight [M, D], bias [M] -> [n, M] in the dtype of the bias, as a tensor of its own."""
    if features.dtype == bias.dtype:
        return torch.addmm(bias, features, weight.T)
    return (features @ weight.T).to(bias.dtype).add_(bias)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total [A, B] += left [A, n] @ right [n, B], without a tensor for the product where the dtypes agree."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """features [n, K, F] or [n, D] -> logits [n, K, V] in the dtype of the bias, as a tensor of their own."""
    if features.ndim == 2:
        return biased_product(features, weight, bias.flatten()).view(len(features), *bias.shape)
    products = (features.flatten(0, 1) @ weight.T).view(len(features), *bias.shape)
    return products.add_(bias) if products.dtype == bias.dtype else products + bias


class _LinearLogProbs(torch.autograd.Function):
    """d l[n, k, m] / d logits[n, k] = onehot(targets[n, m]) - softmax(logits[n, k]); targets [N, M], l [N, K, M]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, limit: int) -> Tensor:
        log_probs = bias.new_empty(len(features), len(bias), targets.shape[1])
        with torch.autocast(features.device.type, enabled=False):
            for rows in slice_rows(len(features), bias.numel(), limit):
                every = _in_place(torch.log_softmax, _logits(features[rows], weight, bias))
                log_probs[rows] = every.gather(-1, _index(targets[rows], len(bias)))
        ctx.save_for_backward(features, weight, bias, targets)
        ctx.limit = limit
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, targets = ctx.saved_tensors
        of_features = torch.empty_like(features)
        of_weight = torch.zeros_like(weight, dtype=bias.dtype)
        of_bias = torch.zeros_like(bias)
        with torch.autocast(features.device.type, enabled=False):
            for rows in slice_rows(len(features), bias.numel(), ctx.limit):
                scale = gradient[rows]
                of_logits = _in_place(torch.softmax, _logits(features[rows], weight, bias))
                of_logits.mul_(-scale.sum(-1, keepdim=True))
                of_logits.scatter_add_(-1, _index(targets[rows], len(bias)), scale)
                of_bias += of_logits.sum(0)
                read = features[rows].flatten(0, -2)  # [n * K, F] or [n, D]
                flat = of_logits.view(len(read), -1).to(weight.dtype)  # [n * K, V] or [n, K * V]
                of_features[rows] = (flat @ weight).view_as(features[rows])
                add_product(of_weight, flat.T, read)
        return of_features, of_weight.to(weight.dtype), of_bias, None, None


def _in_place(function: Callable[..., Tensor], logits: Tensor) -> Tensor:
    """logits [n, K, V] -> function(logits), in their memory on a CPU, whose kernels read a row before they write it."""
    return function(logits, -1, out=logits) if logits.device.type == "cpu" else function(logits, -1)


def _index(targets: Tensor, num_states: int) -> Tensor:
    """targets [n, M] -> [n, K, M], to gather from or scatter into [n, K, V]."""
    return targets.unsqueeze(1).expand(-1, num_states, -1)
