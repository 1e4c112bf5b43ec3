"""Runs of targets that share one plan state: a batch of rows cut at its chunk boundaries and restarts."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Segments", "build_segments"]


class Segments(NamedTuple):
    """The runs of each row, in order; made by `ChunkRule.segments`. R is 1 where all rows of a batch are cut alike.

    A run that begins a document whose first target lies past a boundary (V2 with chunks of one token) is preceded by
    an empty run, so that every chunk start is the start of a run. Rows with fewer runs than S end in empty ones.
    """

    number: Tensor
    """[R, T] the run of each target."""
    offset: Tensor
    """[R, T] how many targets of its run come before it."""
    first: Tensor
    """[R, S] the first target of each run; for an empty run the target that follows it, T at a row's end."""
    length: Tensor
    """[R, S] targets in each run."""
    restarts: Tensor
    """[R, S] bool: the run begins with the initial distribution of plans."""
    crosses: Tensor
    """[R, S] bool: a chunk boundary lies before the run."""

    @property
    def runs(self) -> int:
        """S, runs in the longest row."""
        return self.length.shape[1]

    @property
    def begins(self) -> Tensor:
        """[R, S] bool: the run is the start of a chunk (not the rest of one, nor a filler)."""
        return self.restarts | self.crosses

    @property
    def regular(self) -> bool:
        """True where all rows are cut alike into runs of one length, so that packing is a reshape."""
        return len(self.length) == 1 and bool((self.length == self.length[0, 0]).all())

    def to(self, device: torch.device) -> "Segments":
        """The same on `device`."""
        return Segments(*(tensor.to(device) for tensor in self))

    def pack(self, values: Tensor) -> Tensor:
        """values [B, T, K] -> [B, S, longest run, K], zero where a run is shorter."""
        longest = int(self.length.max())
        if self.regular:
            return values.reshape(len(values), self.runs, longest, values.shape[-1])
        column = torch.arange(longest, device=self.first.device)
        inside = column < self.length.unsqueeze(2)  # [R, S, longest]
        position = torch.where(inside, self.first.unsqueeze(2) + column, 0)
        packed = _rows(values, position.flatten(1)).reshape(len(values), self.runs, longest, values.shape[-1])
        return packed.masked_fill(~inside.unsqueeze(-1), 0.0)

    def unpack(self, values: Tensor) -> Tensor:
        """values [B, S, longest run, K] -> [B, T, K]."""
        flat = values.flatten(1, 2)
        return flat if self.regular else _rows(flat, self.number * values.shape[2] + self.offset)

    def totals(self, values: Tensor) -> Tensor:
        """values [B, T, K] -> [B, S, K], summed over each run."""
        number = self.number.expand(len(values), -1).unsqueeze(-1).expand_as(values)
        return values.new_zeros(len(values), self.runs, values.shape[-1]).scatter_add(1, number, values)

    def at_first(self, values: Tensor) -> Tensor:
        """values [B, T, K] -> [B, S, K], at each run's first target (at the last one for a run past the end)."""
        return _rows(values, self.first.clamp(max=values.shape[1] - 1))


def build_segments(*, restarts: Tensor, crosses: Tensor) -> Segments:
    """restarts [R, T], crosses [R, T] (bool: before that target) -> Segments."""
    starts = restarts | crosses
    starts[:, 0] = True
    empty = restarts & crosses
    number = (starts.long() + empty.long()).cumsum(1) - 1
    count = int(number.max()) + 1
    length = number.new_zeros(len(number), count).scatter_add(1, number, torch.ones_like(number))
    first = length.cumsum(1) - length
    row, target = starts.nonzero(as_tuple=True)
    own = number[row, target]
    flags = torch.zeros(2, len(number), count, dtype=torch.bool, device=number.device)
    flags[0, row, own - empty[row, target].long()] = restarts[row, target]
    flags[1, row, own] = crosses[row, target]
    offset = torch.arange(number.shape[1], device=number.device) - first.gather(1, number)
    return Segments(number, offset, first, length, flags[0], flags[1])


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values [B, N, K], index [R, M] with R = 1 or B -> [B, M, K]."""
    if len(index) == 1:
        return values.index_select(1, index[0])
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
