"""The keys and values that a transformer keeps of what it has read, in columns shared by all rows of a batch.

Rows are aligned at their newest id, so that a step writes one column for the whole batch however many ids each row
has read. A row that has read fewer ids, or has restarted, has a later first column.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["KVBuffer", "KVCache"]


class KVBuffer:
    """One layer's keys and values [B, G, capacity, width], of G heads. A column that is written never changes."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.written = keys.shape[2]

    def extended(self, columns: int, keys: Tensor, values: Tensor, *, spare: bool) -> "KVBuffer":
        """keys and values [B, G, S, width] put after the first `columns` -> the buffer that holds them.

        With `spare`, and outside of autograd, room is doubled when it runs out and columns that nobody has written
        are filled in place: a step costs its own column. Otherwise, and where another cache has gone on from these
        columns already, they are copied.
        """
        old = self.part(0, columns)
        if torch.is_grad_enabled() or not spare:
            return KVBuffer(torch.cat([old.keys, keys], dim=2), torch.cat([old.values, values], dim=2))
        end = columns + keys.shape[2]
        buffer = self
        if self.written != columns or end > self.keys.shape[2] or self.keys.dtype != keys.dtype:
            room = max(end, 2 * columns)
            buffer = KVBuffer(_with_room(old.keys, keys, room), _with_room(old.values, values, room))
        buffer.keys[:, :, columns:end] = keys
        buffer.values[:, :, columns:end] = values
        buffer.written = end
        return buffer

    def part(self, begin: int, end: int) -> "KVBuffer":
        """A view of the columns from `begin` up to `end`."""
        return KVBuffer(self.keys[:, :, begin:end], self.values[:, :, begin:end])

    def copied(self) -> "KVBuffer":
        """The same in memory of its own."""
        return KVBuffer(self.keys.clone(), self.values.clone())

    def select(self, dim: int, index: Tensor) -> "KVBuffer":
        """index [N] -> the given entries of one dimension."""
        return KVBuffer(self.keys.index_select(dim, index), self.values.index_select(dim, index))

    def gather(self, columns: Tensor) -> "KVBuffer":
        """columns [B, N] -> each row's own choice of columns."""
        index = columns[:, None, :, None].expand(-1, self.keys.shape[1], -1, self.keys.shape[3])
        return KVBuffer(self.keys.gather(2, index), self.values.gather(2, index))


def _with_room(old: Tensor, new: Tensor, room: int) -> Tensor:
    """The old columns in a tensor of `room` columns, of the type that old and new have together."""
    made = new.new_empty(*new.shape[:2], room, new.shape[3], dtype=torch.promote_types(old.dtype, new.dtype))
    made[:, :, : old.shape[2]] = old
    return made


@dataclass(frozen=True, kw_only=True)
class KVCache:
    """What B sequences have left behind in every layer: the carry of a transformer."""

    buffers: tuple[KVBuffer, ...] = ()
    """One a layer; none before anything is read."""
    columns: int = 0
    """Columns in use, the same in every layer."""
    position: Tensor
    """[B], or [1] where all rows agree: ids read so far, which is the rotary position of the next one."""
    first: Tensor | None = None
    """[B] the first column that each row may see; None: column 0."""
    padding: Tensor | None = None
    """[B] padding columns at each row's right end, squeezed out before more is read; None: there are none."""

    def newest(self, keep: int | None) -> "KVCache":
        """The cache without padding and of its `keep` newest columns (None: all); views where that can be."""
        if self.padding is None and (keep is None or self.columns <= keep):
            return self
        width = self.columns if keep is None else min(self.columns, keep)
        dropped = self.columns - width
        if self.padding is None:
            buffers = tuple(buffer.part(dropped, self.columns) for buffer in self.buffers)
            first = None if self.first is None else (self.first - dropped).clamp(min=0)
        else:
            # Row b moves right by its padding; what comes from before column 0 is never seen.
            columns = torch.arange(dropped, self.columns, device=self.padding.device) - self.padding.unsqueeze(1)
            buffers = tuple(buffer.gather(columns.clamp(min=0)) for buffer in self.buffers)
            first = ((0 if self.first is None else self.first) + self.padding - dropped).clamp(min=0)
        return replace(self, buffers=buffers, columns=width, first=first, padding=None)

    def without_unseen(self) -> "KVCache":
        """The cache without the columns that no row may see. Waits for the device; for a cache without padding."""
        unseen = 0 if self.first is None else int(self.first.min())
        return self.newest(self.columns - unseen)

    def copied(self) -> "KVCache":
        """The same in memory of its own, holding nothing that is not in use."""
        return replace(self, buffers=tuple(buffer.part(0, self.columns).copied() for buffer in self.buffers))

    def select_rows(self, rows: Tensor) -> "KVCache":
        """rows [N] -> the cache of these rows, in that order."""
        return replace(
            self,
            buffers=tuple(buffer.part(0, self.columns).select(0, rows) for buffer in self.buffers),
            position=self.position if len(self.position) == 1 else self.position[rows],
            first=None if self.first is None else self.first[rows],
            padding=None if self.padding is None else self.padding[rows],
        )

    def num_bytes(self) -> int:
        """Memory of the keys and values, spare room included."""
        return sum(t.untyped_storage().nbytes() for buffer in self.buffers for t in (buffer.keys, buffer.values))
