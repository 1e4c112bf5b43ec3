"""Where chunk boundaries fall: the one rule that maps a target's position to its chunk."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ChunkRule"]


@dataclass(frozen=True, kw_only=True)
class ChunkRule:
    """Target t lies in chunk (t + offset) // chunk_size; before target 0 the filter is in chunk 0.

    V1 counts targets (offset 0). Positions count from 0 at the sequence's first target.
    """

    chunk_size: int
    """L, tokens in a chunk."""
    offset: int = 0
    """How many positions the grid is shifted: 0 where the first chunk holds L targets."""

    def chunk_of(self, position: int) -> int:
        """The chunk of the target at `position`; -1 stands for 'before the first target' and is chunk 0."""
        return (position + self.offset) // self.chunk_size if position >= 0 else 0

    def index(self, first: int, count: int) -> list[int]:
        """The chunks of `count` targets from position `first` on, as `filter_sequence` takes them."""
        return [self.chunk_of(t) for t in range(first, first + count)]

    def crosses(self, position: Tensor) -> Tensor:
        """position [B] (integers) -> bool [B]: is a boundary crossed before that target?"""
        chunk = (position + self.offset) // self.chunk_size
        before = torch.where(position > 0, (position - 1 + self.offset) // self.chunk_size, 0)
        return chunk > before
