"""A layer's product, in the form that is fastest for what it is asked: many rows, few, or one row in compiled code."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from apelr_model.plain_forms import fast_forms

__all__ = ["Projection", "product"]

FEW_ROWS = 8
SMALL_WEIGHT = 2**16
"""Numbers of a weight (256 KiB) that a core's own cache holds: any form reads it fast."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., D], weight [N, D], bias [N] -> x W^T + b [..., N].

    On a CPU, a step of decoding reads the weights from memory and computes little. One row in compiled code is written
    as sums over the weight's rows: a loop is made of them that reads the weight once, as it lies in memory, and weights
    of few bits (low_precision.py) are expanded in registers. Up to `FEW_ROWS` rows are otherwise the columns of W x^T:
    the libraries' product of a large matrix with few columns reads it up to three times as fast as that of few rows
    with its transpose, and one column, alone, as slowly as one row. Everywhere else it is `torch.nn.functional.linear`.
    """
    rows = x.numel() // x.shape[-1]
    if rows == 0 or rows > FEW_ROWS or x.device.type != "cpu":
        return linear(x, weight, bias)
    compiling = torch.compiler.is_compiling()
    if compiling and rows == 1:
        found = (weight * x.reshape(-1)).sum(-1).unsqueeze(0)
    elif weight.numel() > SMALL_WEIGHT and weight.dtype == x.dtype == torch.float32 and (compiling or fast_forms()):
        columns = x.reshape(rows, -1)
        found = (weight @ (columns if rows > 1 else torch.cat((columns, columns))).T).T[:rows]
    else:
        return linear(x, weight, bias)
    found = found.contiguous().view(*x.shape[:-1], -1)
    return found if bias is None else found + bias


class Projection(nn.Linear):
    """A `torch.nn.Linear` whose product is `product`."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., N]."""
        return product(x, self.weight, self.bias)
