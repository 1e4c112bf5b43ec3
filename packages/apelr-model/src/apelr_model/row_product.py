"""A layer's product, in the form that is fastest for what it is asked: many rows, few, or one row in compiled code."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from apelr_model.plain_forms import fast_forms

__all__ = ["Projection", "product"]

FEW_ROWS, SEVERAL_ROWS = 8, 128
"""Rows up to which a product has another form."""
PARTS = 16
"""Of a weight, multiplied one by one with several rows."""
SMALL_WEIGHT = 2**16
"""Numbers of a weight (256 KiB) that a core's own cache holds: any form reads it fast."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., D], weight [N, D], bias [N] -> x W^T + b [..., N].

    On a CPU a step of decoding reads the weights from memory and computes little, for which the libraries' product of
    few rows is slow. Without gradients it is written in other ways. One row in compiled code sums over the weight's
    rows: a loop that reads it once as it lies in memory, and expands weights of few bits (low_precision.py) in
    registers. With a large float32 weight up to `FEW_ROWS` rows are the columns of W x^T, a single row twice, and up to
    `SEVERAL_ROWS` are multiplied with each of `PARTS` parts of the weight, which threads share better. Everywhere else
    it is `torch.nn.functional.linear`. What that gains is in docs/benchmarks.md.
    """
    on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if torch.is_grad_enabled() or not on_cpu or x.numel() == 0:
        return linear(x, weight, bias)
    rows = x.numel() // x.shape[-1]
    if torch.compiler.is_compiling() and rows == 1:
        found = (weight * x.reshape(-1)).sum(-1)
    elif not _gains(rows, weight, x):
        return linear(x, weight, bias)
    elif rows <= FEW_ROWS:
        flat = x.reshape(rows, -1)
        found = (weight @ (flat if rows > 1 else torch.cat((flat, flat))).T).T[:rows].contiguous()
    else:
        parts = weight.reshape(PARTS, -1, weight.shape[1]).transpose(1, 2)
        found = torch.bmm(x.reshape(rows, -1).expand(PARTS, -1, -1), parts).transpose(0, 1).reshape(rows, -1)
    found = found.view(*x.shape[:-1], -1)
    return found if bias is None else found + bias


def _gains(rows: int, weight: Tensor, x: Tensor) -> bool:
    """Is there a faster form than `linear` for that many rows, and is it wanted? Compiled code always wants it."""
    has_form = rows <= FEW_ROWS or (rows <= SEVERAL_ROWS and len(weight) % PARTS == 0)
    is_large = weight.dtype == x.dtype == torch.float32 and weight.numel() > SMALL_WEIGHT
    return has_form and is_large and (torch.compiler.is_compiling() or fast_forms())


class Projection(nn.Linear):
    """A `torch.nn.Linear` whose product is `product`."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., N]."""
        return product(x, self.weight, self.bias)
