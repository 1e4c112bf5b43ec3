"""Causal self-attention with grouped queries, over what has just been read and what a cache holds."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from apelr_model.kv_cache import KVBuffer
from apelr_model.rotary import Rotary, rotate
from apelr_model.row_product import Projection

__all__ = ["Attention", "Sight", "attend", "first_seen", "sight"]


class Sight(NamedTuple):
    """Which of the C columns, past and just read, each of S queries sees."""

    mask: Tensor | None
    """[B, 1, S, C] or [1, 1, S, C], true where seen; None: what `is_causal` says."""
    is_causal: bool
    """Without a mask: each query sees the columns up to its own; false: it sees all."""


def first_seen(past: int, first: Tensor | None, restarts: Tensor | None) -> Tensor | None:
    """first [B], restarts [B, S] -> [B, S] or [B, 1], the first column that each query sees; None: column 0."""
    if restarts is None:
        return None if first is None else first.unsqueeze(1)
    own = torch.arange(past, past + restarts.shape[1], device=restarts.device)
    latest = torch.where(restarts, own, 0).cummax(dim=1).values
    return latest if first is None else torch.maximum(latest, first.unsqueeze(1))


def sight(past: int, steps: int, *, earliest: Tensor | None, window: int | None, device: torch.device) -> Sight:
    """earliest [B, S] (see `first_seen`) -> what S queries see that stand in the columns after `past` ones.

    No mask is made where none is needed: that keeps the fastest kernels in reach.
    """
    columns = past + steps
    bounded = window is not None and window < columns
    if earliest is None and not bounded and (past == 0 or steps == 1):
        return Sight(None, is_causal=steps > 1)
    column = torch.arange(columns, device=device)
    distance = column[past:].unsqueeze(1) - column
    seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    if earliest is not None:
        seen = seen & (column >= earliest.unsqueeze(-1))
    return Sight(seen.view(-1, 1, steps, columns), is_causal=False)


def attend(queries: Tensor, keys: Tensor, values: Tensor, seen: Sight, *, dropout: float) -> Tensor:
    """queries [B, H, S, width], keys and values [B, G, C, width] -> [B, H, S, width]; H / G queries share a key.

    Shared keys are repeated but for single steps, where the queries that share one become its S queries: no kernel
    for grouped queries serves masks, devices and types alike.
    """
    heads, steps, groups = queries.shape[1], queries.shape[2], keys.shape[1]
    if steps == 1 and heads > groups:
        folded = queries.unflatten(1, (groups, -1)).squeeze(3)
        return attend(folded, keys, values, seen, dropout=dropout).reshape(queries.shape)
    if heads > groups:
        keys, values = (shared.repeat_interleave(heads // groups, dim=1) for shared in (keys, values))
    mixed: Tensor = scaled_dot_product_attention(
        queries, keys, values, attn_mask=seen.mask, dropout_p=dropout, is_causal=seen.is_causal
    )
    return mixed


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; without biases."""

    def __init__(self, *, hidden_dim: int, num_heads: int, num_kv_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.dropout = num_heads, num_kv_heads, dropout
        self.width = hidden_dim // num_heads
        self.qkv = Projection(hidden_dim, (num_heads + 2 * num_kv_heads) * self.width, bias=False)
        self.out = Projection(hidden_dim, hidden_dim, bias=False)

    def forward(
        self, x: Tensor, angles: Rotary, seen: Sight, past: KVBuffer | None, columns: int, spare: bool
    ) -> tuple[Tensor, KVBuffer]:
        """x [B, S, D], after `columns` columns of `past` -> [B, S, D], and the buffer with the new columns."""
        projected = self.qkv(x).unflatten(-1, (-1, self.width)).transpose(1, 2)
        turned, values = projected.split([self.num_heads + self.num_kv_heads, self.num_kv_heads], dim=1)
        queries, keys = rotate(turned, angles).split([self.num_heads, self.num_kv_heads], dim=1)
        buffer = KVBuffer(keys.contiguous(), values.contiguous())  # views would keep the queries beside them in memory
        if past is not None:
            buffer = past.extended(columns, buffer.keys, buffer.values, spare=spare)
        used = buffer.part(0, columns + x.shape[1])
        dropout = self.dropout if self.training else 0.0
        mixed = attend(queries, used.keys, used.values, seen, dropout=dropout)
        return self.out(mixed.transpose(1, 2).flatten(2)), buffer
