"""A layer's product, in the form that is fastest for what it is asked: many rows, or one row in compiled code."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

__all__ = ["Projection", "product"]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., D], weight [N, D], bias [N] -> x W^T + b [..., N].

    One row in compiled code on a CPU is written as sums over the weight's rows. A loop is made of them that reads the
    weight once, as it lies in memory: no library reads faster, and weights of few bits (low_precision.py) are
    expanded in registers. Everywhere else it is `torch.nn.functional.linear`.
    """
    if torch.compiler.is_compiling() and x.device.type == "cpu" and x.numel() == x.shape[-1]:
        sums = (weight * x.reshape(-1)).sum(-1)
        return (sums if bias is None else sums + bias).view(*x.shape[:-1], -1)
    return linear(x, weight, bias)


class Projection(nn.Linear):
    """A `torch.nn.Linear` whose product is `product`."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., N]."""
        return product(x, self.weight, self.bias)
