"""What an executor has read, in tensors of fixed shape: one compiled step then serves every token."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from apelr_model.attention import Sight
from apelr_model.kv_cache import KVBuffer, KVCache

__all__ = ["FixedCarry", "FixedColumns", "fixed_cache", "fixed_sight", "widened"]

ROUND_ROOM = 64
"""Columns are made in multiples of this, so that texts of nearly the same length share a compiled step."""


class FixedCarry(NamedTuple):
    """The tensors of B sequences. A step writes into them: unlike another carry, it can be gone on from but once."""

    shared: tuple[tuple[Tensor, ...], ...]
    """Read by every step and never written."""
    own: tuple[Tensor, ...]
    """Of each, row b belongs to sequence b."""
    room: int | None = None
    """How many more ids it may be given; None: nobody has counted. `fixed_step` takes no notice of it."""

    def less_one(self) -> "FixedCarry":
        """The same tensors with room for one id less. Raises ValueError where no room is left."""
        if self.room is None:
            return self
        if self.room < 1:
            raise ValueError(f"room must be >= 1 to read another id, got {self.room}; begin_decoding makes more")
        return self._replace(room=self.room - 1)

    def select_rows(self, rows: Tensor) -> "FixedCarry":
        """rows [N] -> a carry of these sequences in that order, with memory of its own."""
        return self._replace(own=tuple(tensor.index_select(0, rows) for tensor in self.own))


class FixedColumns(KVBuffer):
    """Keys and values [B, G, capacity, width] that take a new column in the place of the oldest once they are full."""

    def __init__(self, keys: Tensor, values: Tensor, place: Tensor) -> None:
        """`place` [1] is where the next column goes."""
        super().__init__(keys, values)
        self.place = place

    def extended(self, columns: int, keys: Tensor, values: Tensor, *, spare: bool) -> "FixedColumns":
        """keys and values [B, G, 1, width] written to their place -> self."""
        self.keys.index_copy_(2, self.place, keys.to(self.keys.dtype))
        self.values.index_copy_(2, self.place, values.to(self.values.dtype))
        return self

    def part(self, begin: int, end: int) -> "FixedColumns":
        """All columns: `fixed_sight` tells which of them count."""
        return self


def fixed_cache(cache: KVCache, *, batch: int, room: int, shape: tuple[int, int], window: int | None) -> FixedCarry:
    """A cache with room for `room` more ids, of `batch` rows whose keys are of `shape` [G, width] -> its fixed form.

    With a `window` it never holds more columns than that. Each row has: the column that comes next [B],
    the same in all; its next position [B]; its first column [B]; and keys and values of each layer.
    """
    past = cache.newest(None if window is None else window - 1)
    capacity = _capacity(past.columns, room, window)
    buffers = []
    for buffer in past.buffers:
        for old in (buffer.keys, buffer.values):
            made = old.new_zeros(batch, shape[0], capacity, shape[1])
            made[:, :, : past.columns] = old[:, :, : past.columns]
            buffers.append(made)
    position = past.position
    first = torch.zeros_like(position) if past.first is None else past.first
    numbers = (torch.full_like(position, past.columns), position, first)
    return FixedCarry((), (*(number.expand(batch).clone() for number in numbers), *buffers))


def widened(carry: FixedCarry, *, room: int, window: int | None) -> FixedCarry:
    """What `fixed_cache` made, with room for `room` more ids. Nothing has been written over yet where it grows."""
    column, position, first, *buffers = carry.own
    more = _capacity(int(column[0]), room, window) - buffers[0].shape[2]
    if more <= 0:
        return carry
    return FixedCarry(carry.shared, (column, position, first, *(pad(buffer, (0, 0, 0, more)) for buffer in buffers)))


def _capacity(columns: int, room: int, window: int | None) -> int:
    needed = columns + room
    return -(-needed // ROUND_ROOM) * ROUND_ROOM if window is None else min(needed, window)


def fixed_sight(column: Tensor, first: Tensor, capacity: int) -> Sight:
    """column [1] being written, first [B] -> which of the `capacity` places each row's one query sees.

    Place p holds the newest column that is p modulo the capacity. What is older than the capacity has been written
    over, which is how a window forgets.
    """
    place = torch.arange(capacity, device=column.device)
    held = column - (column - place) % capacity
    seen = held >= first.clamp(min=0).unsqueeze(1)
    return Sight(seen.view(-1, 1, 1, capacity), is_causal=False)
