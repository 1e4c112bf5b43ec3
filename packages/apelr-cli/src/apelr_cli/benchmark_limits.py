"""What a machine can do at best: products of matrices, and reading memory. Nothing that a model does is faster."""

from typing import Literal

import torch
from torch import Tensor

from apelr_model import FactorizedHeadConfig, PlannerLM, V1Config

__all__ = ["LARGE_READ", "MatrixProduct", "MemoryRead", "head_products", "memory_reads", "products_of"]

LARGE_READ = 2**29
"""Bytes of a read that no cache holds."""
LARGEST_RESULT = 2**26
"""Numbers of a product's result at most: 256 MiB in float32. A head's has fewer rows where that would be more."""


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
    """Every number of a matrix is read once, by its product with a vector or by the sum of all its numbers.

    Either computes little; which of them reads faster depends on the machine and the library.
    """

    def __init__(self, matrix: Tensor, way: Literal["product", "sum"]) -> None:
        """matrix [rows, columns]."""
        self.matrix = matrix
        self.way = way
        self.vector = torch.ones(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
        self.into = torch.empty(len(matrix), dtype=matrix.dtype, device=matrix.device)
        self.name = f"read {self.bytes} bytes, {way}"

    @property
    def bytes(self) -> int:
        """Bytes of the matrix."""
        return self.matrix.numel() * self.matrix.element_size()

    def __call__(self) -> Tensor:
        """Read all of it: -> [rows], or the sum []."""
        return self.matrix.sum() if self.way == "sum" else torch.mv(self.matrix, self.vector, out=self.into)


def memory_reads(size: int, *, device: torch.device) -> list[MemoryRead]:
    """The reads of `size` bytes of float32, both ways; the faster of them in a round is the limit."""
    width = 1024
    matrix = torch.ones(max(1, size // (4 * width)), width, device=device)
    return [MemoryRead(matrix, "product"), MemoryRead(matrix, "sum")]


def products_of(model: PlannerLM, tokens: int, dtype: torch.dtype = torch.float32) -> list[MatrixProduct]:
    """Products to hold a model's step against: a large square one, and the largest of its head on `tokens` tokens.

    The faster of them is the limit.
    """
    count, inner, columns = max(head_products(model), key=lambda sizes: sizes[0] * sizes[1] * sizes[2])
    rows = max(1, min(tokens * count, LARGEST_RESULT // columns))
    return [
        MatrixProduct(2048, 2048, 2048, dtype=dtype, device=model.device),
        MatrixProduct(rows, inner, columns, dtype=dtype, device=model.device),
    ]


def head_products(model: PlannerLM) -> list[tuple[int, int, int]]:
    """The matrix products of a model's head, all of one token's: rows a token, inner width, columns."""
    config, states, vocabulary, width = model.config, model.num_plan_states, model.vocab_size, model.executor.hidden_dim
    if isinstance(config, V1Config):  # a feature for each state, one output layer
        return [(1, width, config.fusion_dim), (states, config.fusion_dim, vocabulary)]
    head = getattr(config, "head", None)
    if not isinstance(head, FactorizedHeadConfig):  # an output layer for each state
        return [(1, width, states * vocabulary)]
    if head.rank == 0:  # one output layer, and the normalisers of all states
        return [(1, width, vocabulary), (1, vocabulary, states)]
    return [(1, width, vocabulary), (1, width, states * head.rank), (states, head.rank, vocabulary)]
