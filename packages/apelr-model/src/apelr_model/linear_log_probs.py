"""Log-softmax of a linear layer at the targets alone, in slices, with a hand-written gradient.

The logits of all tokens are K times the size of an ordinary model's, and are needed twice: for the
log-likelihoods, and, once the filter has turned those into a loss, for their gradient. They are made a slice
of tokens at a time, and made again in the backward pass.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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


def _logits(features: Tensor, weight: Tensor, bias: Tensor, part: "_Part") -> Tensor:
    """features [N, K, F] or [N, D] -> the part's logits [n, k, V] in the dtype of the bias, in memory of their own."""
    read, biases = features[part.rows], bias[part.states]
    if features.ndim == 2:
        return biased_product(read, weight[part.outputs], biases.flatten()).view(len(read), *biases.shape)
    products = (read.flatten(0, 1) @ weight.T).view(len(read), *biases.shape)
    return products.add_(biases) if products.dtype == biases.dtype else products + biases


class _Part(NamedTuple):
    """Logits that are made together."""

    rows: slice
    """Of the N tokens."""
    states: slice
    """Of the K plan states."""
    outputs: slice
    """The rows of the weight that give them."""


def _parts(features: Tensor, weight: Tensor, bias: Tensor, limit: int) -> Iterator[_Part]:
    """All logits in parts of at most `limit`: where states have weights of their own, state by state, so that each
    weight's gradient is added up while it is at hand."""
    states, vocabulary = bias.shape
    if features.ndim == 3:
        for rows in slice_rows(len(features), bias.numel(), limit):
            yield _Part(rows, slice(0, states), slice(0, len(weight)))
        return
    for state in range(states):
        for rows in slice_rows(len(features), vocabulary, limit):
            yield _Part(rows, slice(state, state + 1), slice(state * vocabulary, (state + 1) * vocabulary))


class _LinearLogProbs(torch.autograd.Function):
    """d l[n, k, m] / d logits[n, k] = onehot(targets[n, m]) - softmax(logits[n, k]); targets [N, M], l [N, K, M]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, limit: int) -> Tensor:
        log_probs = bias.new_empty(len(features), len(bias), targets.shape[1])
        with torch.autocast(features.device.type, enabled=False):
            for part in _parts(features, weight, bias, limit):
                every = _in_place(torch.log_softmax, _logits(features, weight, bias, part))
                log_probs[part.rows, part.states] = every.gather(-1, _index(targets[part.rows], every.shape[1]))
        ctx.save_for_backward(features, weight, bias, targets)
        ctx.limit = limit
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, targets = ctx.saved_tensors
        of_features = torch.zeros_like(features, dtype=bias.dtype)
        of_weight = torch.zeros_like(weight, dtype=bias.dtype)
        of_bias = torch.zeros_like(bias)
        with torch.autocast(features.device.type, enabled=False):
            for part in _parts(features, weight, bias, ctx.limit):
                scale = gradient[part.rows, part.states]
                of_logits = _in_place(torch.softmax, _logits(features, weight, bias, part))
                of_logits.mul_(-scale.sum(-1, keepdim=True))
                of_logits.scatter_add_(-1, _index(targets[part.rows], of_logits.shape[1]), scale)
                of_bias[part.states] += of_logits.sum(0)
                read = features[part.rows].flatten(0, -2)  # [n * K, F] or [n, D]
                flat = of_logits.view(len(read), -1).to(weight.dtype)  # [n * K, V] or [n, V]
                add_product(of_features[part.rows].view_as(read), flat, weight[part.outputs])
                add_product(of_weight[part.outputs], flat.T, read)
        return of_features.to(features.dtype), of_weight.to(weight.dtype), of_bias, None, None


def _in_place(function: Callable[..., Tensor], logits: Tensor) -> Tensor:
    """logits [n, K, V] -> function(logits), in their memory on a CPU, whose kernels read a row before they write it."""
    return function(logits, -1, out=logits) if logits.device.type == "cpu" else function(logits, -1)


def _index(targets: Tensor, num_states: int) -> Tensor:
    """targets [n, M] -> [n, K, M], to gather from or scatter into [n, K, V]."""
    return targets.unsqueeze(1).expand(-1, num_states, -1)
