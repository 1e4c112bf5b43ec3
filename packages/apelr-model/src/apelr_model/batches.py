"""What the model is trained and evaluated on: rows of token ids, right-padded."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SEGMENT", "TokenBatch"]

SEGMENT = 1024
"""Targets of each row that are read at once where a text may be long; state and belief run through."""


class TokenBatch(NamedTuple):
    """Rows of token ids, right-padded."""

    inputs: Tensor
    """[B, T] integers."""
    targets: Tensor
    """[B, T] integers: `inputs` one step on."""
    lengths: Tensor
    """[B] number of unpadded targets of each row, at least 1."""
    positions: Tensor | None = None
    """[B, T] targets of the same document before each target, from its row's start; None: a row is one document."""
    continues: Tensor | None = None
    """[B] bool: the row goes on where the same row of the batch before ended, and its plan with it; None: no row."""

    @property
    def valid(self) -> Tensor:
        """[B, T] bool: False at padding."""
        return torch.arange(self.inputs.shape[1], device=self.inputs.device) < self.lengths.unsqueeze(1)

    @property
    def clock(self) -> Tensor:
        """[1 or B, T] the positions, counted from the rows' starts where none are given."""
        if self.positions is not None:
            return self.positions
        return torch.arange(self.inputs.shape[1], device=self.inputs.device).unsqueeze(0)

    def split(self, parts: int) -> Iterator["TokenBatch"]:
        """The batch in `parts` runs of rows, as equal as they can be; ValueError with fewer rows than parts."""
        if parts > len(self.lengths):
            raise ValueError(f"cannot split {len(self.lengths)} rows into {parts} parts")
        pieces = [[None] * parts if tensor is None else tensor.tensor_split(parts) for tensor in self]
        for piece in zip(*pieces, strict=True):
            yield TokenBatch(*piece)

    def to(self, device: torch.device) -> "TokenBatch":
        """The batch on `device`; from page-locked memory CUDA copies it while this process goes on."""
        ahead = device.type == "cuda"
        moved = (None if tensor is None else tensor.to(device, non_blocking=ahead) for tensor in self)
        return TokenBatch(*moved)  # type: ignore[arg-type]
