"""Runs of targets that share one plan state: a batch of rows cut at its chunk boundaries and restarts."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

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
    longest: int
    """Targets in the longest run."""
    lead: int | None
    """Targets that the first run has less than the longest, where all rows are cut alike into runs of one length but
    for the first and the last: packing is then padding and a view. None where they are not."""

    @property
    def runs(self) -> int:
        """S, runs in the longest row."""
        return self.length.shape[1]

    @property
    def begins(self) -> Tensor:
        """[R, S] bool: the run is the start of a chunk (not the rest of one, nor a filler)."""
        return self.restarts | self.crosses

    def to(self, device: torch.device) -> "Segments":
        """The same on `device`."""
        number, offset, first, length, restarts, crosses = (tensor.to(device) for tensor in self[:6])
        return Segments(number, offset, first, length, restarts, crosses, self.longest, self.lead)

    def pack(self, values: Tensor) -> Tensor:
        """values [B, T, K] -> [B, S, longest run, K], zero where a run is shorter: before the targets of a row's first
        run where rows are cut evenly (`lead`), else after its targets."""
        shape = (len(values), self.runs, self.longest, values.shape[-1])
        if self.lead is not None:
            behind = self.runs * self.longest - self.lead - values.shape[1]
            return pad(values, (0, 0, self.lead, behind)).view(shape) if self.lead or behind else values.view(shape)
        column = torch.arange(self.longest, device=self.first.device)
        inside = column < self.length.unsqueeze(2)  # [R, S, longest]
        position = torch.where(inside, self.first.unsqueeze(2) + column, 0)
        return _rows(values, position.flatten(1)).reshape(shape).masked_fill(~inside.unsqueeze(-1), 0.0)

    def unpack(self, values: Tensor) -> Tensor:
        """values [B, S, longest run, K] -> [B, T, K]."""
        flat = values.flatten(1, 2)
        if self.lead is not None:
            return flat[:, self.lead : self.lead + self.number.shape[1]]
        return _rows(flat, self.number * self.longest + self.offset)

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
    return Segments(number, offset, first, length, flags[0], flags[1], *_grid(length))


def _grid(length: Tensor) -> tuple[int, int | None]:
    """length [R, S] -> the longest run, and what the first lacks of it where all between are that long."""
    if len(length) > 1:
        return int(length.max()), None
    first, *others = length[0].tolist()
    longest = max(first, *others, 0)
    even = all(run == longest for run in others[:-1])
    return longest, longest - first if even else None


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values [B, N, K], index [R, M] with R = 1 or B -> [B, M, K]."""
    if len(index) == 1:
        return values.index_select(1, index[0])
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
