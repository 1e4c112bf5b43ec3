"""What a machine can do at best: products of matrices, and reading memory. Nothing that a model does is faster."""

import torch
from torch import Tensor

from apelr_model import PlannerLM

__all__ = ["LARGE_READ", "MatrixProduct", "MemoryRead", "products_of"]

LARGE_READ = 2**29
"""Bytes of a read that no cache holds."""


class MatrixProduct:
    """[rows, inner] @ [inner, columns] into memory that is there already."""

    def __init__(self, rows: int, inner: int, columns: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.left = torch.randn(rows, inner, device=device).to(dtype)
        self.right = torch.randn(columns, inner, device=device).to(dtype).T  # as a layer's weight lies
        self.into = torch.empty(rows, columns, dtype=dtype, device=device)
        self.name = f"product {rows} x {inner} x {columns}, {str(dtype).removeprefix('torch.')}"

    @property
    def flops(self) -> int:
        """Operations of one call, a multiplication and an addition being two."""
        return 2 * self.left.numel() * self.into.shape[1]

    def __call__(self) -> Tensor:
        """Multiply."""
        return torch.mm(self.left, self.right, out=self.into)


class MemoryRead:
    """A matrix times a vector: every element is read once, for two operations, which take no time beside it."""

    def __init__(self, size: int, *, dtype: torch.dtype = torch.float32, device: torch.device) -> None:
        """`size` is in bytes."""
        width = 1024
        rows = max(1, size // (width * dtype.itemsize))
        self.matrix = torch.ones(rows, width, dtype=dtype, device=device)
        self.vector = torch.ones(width, dtype=dtype, device=device)
        self.into = torch.empty(rows, dtype=dtype, device=device)
        self.name = f"read {self.bytes / 2**20:.0f} MiB"

    @property
    def bytes(self) -> int:
        """Bytes of the matrix."""
        return self.matrix.numel() * self.matrix.element_size()

    def __call__(self) -> Tensor:
        """Read all of it."""
        return torch.mv(self.matrix, self.vector, out=self.into)


def products_of(model: PlannerLM, tokens: int, dtype: torch.dtype = torch.float32) -> list[MatrixProduct]:
    """Products to hold a model's step against: a large square one, and its output layer on `tokens` tokens.

    The faster of them is the limit.
    """
    width, logits = model.executor.hidden_dim, model.head.logits_per_token
    return [
        MatrixProduct(2048, 2048, 2048, dtype=dtype, device=model.device),
        MatrixProduct(tokens, width, min(logits, 16384), dtype=dtype, device=model.device),
    ]
