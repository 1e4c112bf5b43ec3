"""Sums of what has been seen so far in each run, with as many operations as a run has targets."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["running_sum"]

MOST_STEPS = 64
"""Length up to which additions of slices beat PyTorch's cumsum, which takes one number at a time."""


def running_sum(values: Tensor) -> Tensor:
    """values [B, S, L, K] -> [B, S, L, K], summed along L up to each place. Gradients of the first order only."""
    if values.shape[2] == 1:
        return values
    if values.shape[2] > MOST_STEPS:
        return values.cumsum(2)
    summed: Tensor = _RunningSum.apply(values)  # type: ignore[no-untyped-call]
    return summed


class _RunningSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone(memory_format=torch.contiguous_format)
        for earlier, later in pairwise(summed.unbind(2)):
            later += earlier
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        for later, earlier in pairwise(summed.unbind(2)[::-1]):
            earlier += later
        return summed
