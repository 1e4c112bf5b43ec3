"""Unlikelihood of repetition: tokens of the recent past are made improbable where they are not the target."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import log_mean_state
from apelr_model.emissions import target_log_probs
from apelr_model.head import Head

__all__ = ["RecentTokens", "recent_tokens", "rep_unlikelihood", "unlikelihood"]


class RecentTokens(NamedTuple):
    """For every target, the distinct ids of its window that are not the target itself."""

    ids: Tensor
    """[B, T, M] integers; any id where `keep` is False."""
    keep: Tensor
    """[B, T, M] bool: True once for each distinct id u != y_t of the window."""


def recent_tokens(inputs: Tensor, targets: Tensor, window: int, *, positions: Tensor | None = None) -> RecentTokens:
    """inputs [B, T], targets [B, T], window w -> RecentTokens [B, T, min(w, T - 1)].

    The window of target y_t = x_{t+1} is x_{t-w} ... x_{t-1}: NOT x_t, the input just read, so that a token said
    twice in a row is no repetition. It ends at the row's start. `positions` [B, T], the number of targets of the same
    document before each, makes it end at the document's start too. Right padding is in no window of an unpadded
    target; drop the padded ones themselves. Raises ValueError for a window below 1.
    """
    if window < 1:
        raise ValueError(f"rep_window must be >= 1, got {window}")
    batch, steps = inputs.shape
    reach = min(window, steps - 1)
    outside = inputs.new_full((batch, reach), -1)
    windows = torch.cat([outside, inputs[:, : steps - 1]], dim=1)
    # One window for each target: entry m of target t is x_{t - reach + m}.
    seen = windows.unfold(1, reach, 1) if reach else inputs.new_zeros(batch, steps, 0)
    if positions is not None:
        distance = torch.arange(reach, 0, -1, device=inputs.device)
        seen = seen.masked_fill(distance > positions.unsqueeze(-1), -1)
    ids = seen.sort(-1).values  # equal ids are neighbours now
    repeated = torch.zeros_like(ids, dtype=torch.bool)
    repeated[..., 1:] = ids[..., 1:] == ids[..., :-1]
    return RecentTokens(ids.clamp(min=0), (ids >= 0) & ~repeated & (ids != targets.unsqueeze(-1)))


def rep_unlikelihood(head: Head, hidden: Tensor, log_gate: Tensor, ids: Tensor, keep: Tensor) -> Tensor:
    """hidden [N, D], log_gate [N, K], ids [N, M], keep [N, M] -> mean of -log(1 - p(u)) over the kept ids u, [N].

    p(u) = sum_k g(k) p(u | h, z = k), with g the gate of the target at that position. Positions that keep no id
    are 0. The loss term is the sum over positions divided by `keep.any(-1).sum()`: a count of ids alone, so that
    micro-batches add up when each divides by the whole step's count.
    """
    if ids.shape[-1] == 0:
        return hidden.new_zeros(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
    by_state = target_log_probs(head, hidden, ids).transpose(1, 2)  # [N, K, M]
    return unlikelihood(log_mean_state(log_gate, by_state), keep)


def unlikelihood(log_probs: Tensor, keep: Tensor) -> Tensor:
    """log_probs [N, M] in nats, keep [N, M] -> mean over the kept of -log(1 - exp(log p)) [N]; 0 where none is.

    In floating point 1 - p is known to the dtype's spacing and no better, so it counts as no less than that: at
    p = 1 the term is 16 nats in float32 (36 in float64) and its gradient is finite and not 0.
    """
    nearest = -torch.finfo(log_probs.dtype).eps
    # The value is held below 0 and the gradient goes through.
    below = torch.where(log_probs < nearest, log_probs, log_probs - log_probs.detach() + nearest)
    # Two forms of log(1 - exp(x)), each where it is exact; both are finite, with finite gradients, everywhere.
    log_rest = torch.where(below > -math.log(2), (-below.expm1()).log(), (-below.exp()).log1p())
    kept = keep.sum(-1).clamp(min=1)
    return -log_rest.masked_fill(~keep, 0.0).sum(-1) / kept
