"""Where chunk boundaries fall: the one rule that maps a target's position to its chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apelr_model.segments import Segments, build_segments

__all__ = ["ChunkRule"]


@dataclass(frozen=True, kw_only=True)
class ChunkRule:
    """Target t lies in chunk (t + offset) // chunk_size; before target 0 the filter is in chunk 0.

    V1 counts targets (offset 0), V2 counts inputs read (offset 1: its first chunk has one target less).
    Positions count from 0 at the first target of a document, or of a sequence without documents.
    """

    chunk_size: int
    """L, tokens in a chunk."""
    offset: int = 0
    """How many positions the grid is shifted: 0 where the first chunk holds L targets."""

    def chunk_of(self, position: int) -> int:
        """The chunk of the target at `position`; -1 stands for 'before the first target' and is chunk 0."""
        return (position + self.offset) // self.chunk_size if position >= 0 else 0

    def index(self, first: int, count: int) -> list[int]:
        """The chunks of `count` targets from position `first` on."""
        return [self.chunk_of(t) for t in range(first, first + count)]

    def chunks(self, positions: Tensor) -> Tensor:
        """positions [...] (integers) -> [...] the chunk of the target at each."""
        return (positions + self.offset) // self.chunk_size

    def crosses(self, positions: Tensor) -> Tensor:
        """positions [...] (integers) -> bool [...]: is a boundary crossed before that target?"""
        before = torch.where(positions > 0, self.chunks(positions - 1), 0)
        return self.chunks(positions) > before

    def segments(self, positions: Tensor | Sequence[int], *, frozen_from: int | None = None) -> Segments:
        """positions [R, T] (or one row of them) -> the runs of targets between chunk boundaries and restarts.

        Position 0 restarts the belief. Targets at `frozen_from` and later cross no boundary (None: all do). Raises
        ValueError where a row's positions neither count on by one nor start again at 0.
        """
        clock = torch.as_tensor(positions)
        clock = clock.unsqueeze(0) if clock.ndim == 1 else clock
        wrong = (clock[:, 1:] != clock[:, :-1] + 1) & (clock[:, 1:] != 0)
        if bool(wrong.any()) or bool((clock < 0).any()):
            raise ValueError("positions must count on by one or start again at 0")
        crosses = self.crosses(clock)
        if frozen_from is not None:
            crosses &= clock < frozen_from
        return build_segments(restarts=clock == 0, crosses=crosses)
