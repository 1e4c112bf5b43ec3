"""The filter for streams: one observation at a time, in constant memory, with fixed-lag smoothing."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import condition, cross_boundary, forecast, log_mean_state, to_filter_dtype
from apelr_model.chunks import ChunkRule
from apelr_model.posterior import step_back

__all__ = ["StreamState", "StreamedToken", "StreamingFilter"]


class StreamState(NamedTuple):
    """All that a `StreamingFilter` remembers: plain tensors, to be kept, saved and loaded again."""

    log_belief: Tensor
    """[B, K] belief after the last observation; float64."""
    position: Tensor
    """[B] observations since the row's start."""
    log_ended: Tensor
    """[B, lag, K] beliefs at the ends of the latest chunks, oldest first; minus infinity where there was none."""


class StreamedToken(NamedTuple):
    """What one observation gave; without the B where the filter has no batch."""

    log_belief: Tensor
    """[B, K] belief before it, any boundary crossed."""
    log_belief_after: Tensor
    """[B, K] belief after it."""
    token_log_prob: Tensor
    """[B] its log-probability given all before it, nats; 0 in rows that are not active."""


class StreamingFilter:
    """`filter_sequence` for observations that come one at a time, for one stream or B side by side.

    Its tables are copied and no gradient is kept. Streams may start and stop alone: see `restart`, and `active` in
    `step`.
    """

    def __init__(
        self,
        log_initial: Tensor,
        log_transition: Tensor,
        chunks: ChunkRule,
        *,
        batch_size: int | None = None,
        lag: int = 0,
    ) -> None:
        """log_initial [K], log_transition [K, K]; `lag` counts the ended chunks that `smoothed` looks back at.

        Without `batch_size` there is one stream, and no tensor has a batch. Raises ValueError where a shape or a
        number does not fit.
        """
        if log_initial.ndim != 1 or log_transition.shape != (len(log_initial), len(log_initial)):
            shapes = f"{list(log_initial.shape)} and {list(log_transition.shape)}"
            raise ValueError(f"log_initial must be [K] and log_transition [K, K], got {shapes}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if lag < 0:
            raise ValueError(f"lag must be >= 0, got {lag}")
        self.chunks = chunks
        self._batched = batch_size is not None
        self._log_initial = to_filter_dtype(log_initial.detach()).clone()
        self._log_transition = to_filter_dtype(log_transition.detach()).clone()
        rows, states = batch_size or 1, len(log_initial)
        self._state = StreamState(
            self._log_initial.repeat(rows, 1),
            torch.zeros(rows, dtype=torch.long, device=self._log_initial.device),
            self._log_initial.new_full((rows, lag, states), -math.inf),
        )

    @property
    def state(self) -> StreamState:
        """Where the streams stand; what is done later does not change it."""
        return self._state

    def load_state(self, state: StreamState) -> None:
        """Go on from a `state` of this or an equal filter; ValueError where a shape differs."""
        for name, own, given in zip(StreamState._fields, self._state, state, strict=True):
            if given.shape != own.shape:
                raise ValueError(f"{name} must be {list(own.shape)}, got {list(given.shape)}")
        self._state = StreamState(*(x.to(own, copy=True) for own, x in zip(self._state, state, strict=True)))

    @property
    def crosses(self) -> Tensor:
        """bool [B]: the next observation lies in a new chunk, so that `evidence` counts in those rows."""
        return self._shown(self.chunks.crosses(self._state.position))

    def before(self, evidence: Tensor | None = None) -> Tensor:
        """evidence [B, K] (log-weights, 0 for None) -> belief [B, K] before the next observation; nothing moves on."""
        return self._shown(self._enter(evidence))

    def step(
        self, token_log_probs: Tensor, *, evidence: Tensor | None = None, active: Tensor | None = None
    ) -> StreamedToken:
        """token_log_probs [B, K], evidence [B, K], active [B] (bool) -> StreamedToken of [B, ...].

        `evidence` is used in rows that cross a boundary before this observation. Rows that are not `active` (default:
        all are) stand still, whatever is given for them.
        """
        observed = self._rows("token_log_probs", token_log_probs)
        log_before = self._enter(evidence)
        log_after, token_log_prob = condition(log_before, observed), log_mean_state(log_before, observed)
        old = self._state
        log_ended = self._ended()
        position = old.position + 1
        if active is not None:
            moves = active.to(observed.device).reshape(-1)
            if moves.shape != old.position.shape:
                raise ValueError(f"active must be [B] = {list(old.position.shape)}, got {list(active.shape)}")
            log_after = torch.where(moves.unsqueeze(1), log_after, old.log_belief)
            log_ended = torch.where(moves[:, None, None], log_ended, old.log_ended)
            position = torch.where(moves, position, old.position)
            token_log_prob = token_log_prob.masked_fill(~moves, 0.0)
        self._state = StreamState(log_after, position, log_ended)
        return StreamedToken(*(self._shown(x) for x in (log_before, log_after, token_log_prob)))

    def forecast(self, steps: int) -> Tensor:
        """-> log-probabilities [B, steps, K] of the plans 1 ... steps chunks ahead, given what has been observed."""
        return self._shown(forecast(self._state.log_belief, self._log_transition, steps))

    def smoothed(self) -> Tensor:
        """-> log p(plan | all observed so far) [B, lag + 1, K]: of the `lag` chunks that ended last, and of this one.

        Oldest first; minus infinity for chunks before the row's start. When a chunk has ended, the first entry is the
        fixed-lag posterior of the chunk `lag` before it (`fixed_lag_plans`).
        """
        log_posterior = [self._state.log_belief]
        for log_ended in self._state.log_ended.unbind(1)[::-1]:
            log_posterior.append(step_back(log_posterior[-1], log_ended, self._log_transition))
        return self._shown(torch.stack(log_posterior[::-1], dim=1))

    def restart(self, rows: Tensor | None = None) -> None:
        """rows [B] (bool; None: all) begin anew: initial belief, first chunk, nothing before it."""
        old = self._state
        begins = torch.ones_like(old.position).bool() if rows is None else rows.to(old.position.device).reshape(-1)
        if begins.shape != old.position.shape:
            raise ValueError(f"rows must be [B] = {list(old.position.shape)}, got {list(begins.shape)}")
        self._state = StreamState(
            torch.where(begins.unsqueeze(1), self._log_initial, old.log_belief),
            old.position.masked_fill(begins, 0),
            old.log_ended.masked_fill(begins[:, None, None], -math.inf),
        )

    def _enter(self, evidence: Tensor | None) -> Tensor:
        """The belief [B, K] before the next observation."""
        crosses = self.chunks.crosses(self._state.position)
        weights = None if evidence is None else self._rows("evidence", evidence)
        if not bool(crosses.any()):
            return self._state.log_belief
        crossed = cross_boundary(self._state.log_belief, self._log_transition, weights)
        return torch.where(crosses.unsqueeze(1), crossed, self._state.log_belief)

    def _ended(self) -> Tensor:
        """The beliefs [B, lag, K] at chunk ends, once the next observation's boundary is crossed."""
        old = self._state
        moved = torch.cat([old.log_ended, old.log_belief.unsqueeze(1)], dim=1)[:, 1:]
        return torch.where(self.chunks.crosses(old.position)[:, None, None], moved, old.log_ended)

    def _rows(self, name: str, values: Tensor) -> Tensor:
        """values [K] or [B, K] -> [B, K] in the filter's dtype, on its device."""
        expected = self._state.log_belief.shape if self._batched else self._log_initial.shape
        if values.shape != expected:
            shape = "[B, K]" if self._batched else "[K]"
            raise ValueError(f"{name} must be {shape} = {list(expected)}, got {list(values.shape)}")
        return to_filter_dtype(values.detach()).to(self._log_initial.device).view(self._state.log_belief.shape)

    def _shown(self, values: Tensor) -> Tensor:
        """values [B, ...] -> the same, or [...] where the filter has no batch."""
        return values if self._batched else values[0]
