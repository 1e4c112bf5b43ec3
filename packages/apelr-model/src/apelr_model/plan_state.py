"""Where the plans of a batch of sequences stand, and what a planner makes of the targets that come."""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.filter import FilterResult
from apelr_model.segments import Segments

__all__ = ["PlanReading", "PlanState", "belief_at_end", "state_after"]


class PlanState(NamedTuple):
    """Where the plans of B sequences stand after their last observed target."""

    log_belief: Tensor
    """[B, K] belief after the last observed target (log pi before the first); float64."""
    position: Tensor
    """[B] number of targets observed in the document."""
    chunk_sum: Tensor
    """[B, D] sum of the executor's states over the inputs of the chunk under way; [B, 0] where nothing needs it."""


class PlanReading(NamedTuple):
    """What a planner made of a batch of targets."""

    filtered: FilterResult
    """Beliefs, gates and the targets' log-probabilities."""
    segments: Segments
    """The runs of targets between chunk boundaries and restarts."""
    evidence: Tensor | None
    """[B, S, K] log-weights from the text at the start of each run, used where it crosses a boundary."""
    state: PlanState
    """Where every row stands after its last (unpadded) target."""


def state_after(
    state: PlanState, filtered: FilterResult, positions: Tensor, lengths: Tensor, chunk_sum: Tensor
) -> PlanState:
    """positions [1 or B, T], lengths [B], chunk_sum [B, T, D] -> the state after each row's first `lengths` targets.

    Rows of length 0 stay as they are. `chunk_sum` holds the sum that goes on after each target.
    """
    last = (lengths - 1).clamp(min=0)
    row = torch.arange(len(last), device=last.device)
    read = (lengths > 0).unsqueeze(-1)
    on_filter = filtered.log_belief.device
    log_belief = belief_at_end(filtered, lengths)
    position = positions.expand(len(last), -1)[row, last] + 1
    return PlanState(
        torch.where(read.to(on_filter), log_belief, state.log_belief.to(log_belief)),
        torch.where(lengths > 0, position, state.position),
        torch.where(read, chunk_sum[row, last].to(state.chunk_sum), state.chunk_sum),
    )


def belief_at_end(filtered: FilterResult, lengths: Tensor) -> Tensor:
    """lengths [B] -> [B, K] log belief after each row's last target; of a row of length 0 it means nothing."""
    last = (lengths - 1).clamp(min=0).to(filtered.log_belief_after.device)
    return filtered.log_belief_after[torch.arange(len(last), device=last.device), last]
