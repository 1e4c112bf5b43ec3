"""The forward pass over the runs of a text: the filter's own recursion, kept for inference that looks back.

A run is a stretch of targets that share one plan state, so a run is one step of the filter here, its observation the
sum of its targets' log-likelihoods. Everything that needs the whole text starts from this: smoothing and fixed lags
(posterior.py), the most likely path and samples of paths (plan_paths.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import cross_boundary, to_filter_dtype
from apelr_model.filter import check_filter_inputs, filter_sequence, segments_of, where_true
from apelr_model.segments import Segments

__all__ = ["PlanTrellis", "plan_trellis"]


class PlanTrellis(NamedTuple):
    """What the filter knows at the ends of every run, and what it was told; float64. Made by `plan_trellis`."""

    log_before: Tensor
    """[B, S, K] log belief at each run's start, any boundary crossed."""
    log_after: Tensor
    """[B, S, K] log belief at each run's end."""
    log_prob: Tensor
    """[B, S] log-probability of each run's targets given all targets before them, nats."""
    run_log_probs: Tensor
    """[B, S, K] log-likelihood of each run's targets under each plan state."""
    log_initial: Tensor
    """[B, K] log belief at the start of the first run."""
    log_restart: Tensor
    """[B, K] log belief at a document's start."""
    log_transition: Tensor
    """[K, K] row: from, column: to."""
    evidence: Tensor | None
    """[B, S, K] log-weights, 0 for runs that no boundary of a path leads into."""
    runs: Segments
    """One step for each run: which cross a boundary of a path, and which begin a document."""
    segments: Segments
    """Which targets each run holds."""
    in_path: Tensor
    """[B, S] bool: the run, or a later one of its document, holds an observed target. Others are padding."""
    last: Tensor
    """[B, S] the last run of the document's path; below the run's own number where there is none."""

    def at_targets(self, values: Tensor) -> Tensor:
        """values [B, S, ...] of the runs -> [B, T, ...] of the targets in them."""
        rows = torch.arange(len(values), device=values.device).unsqueeze(1)
        return values[rows, self.segments.number]


def plan_trellis(
    token_log_probs: Tensor,
    log_initial: Tensor,
    log_transition: Tensor,
    chunks: Sequence[int] | Segments,
    *,
    evidence: Tensor | None = None,
    mask: Tensor | None = None,
    observed: Tensor | None = None,
    log_restart: Tensor | None = None,
    start_chunk: int = 0,
) -> PlanTrellis:
    """token_log_probs [B, T, K], log_initial [K] or [B, K], log_transition [K, K] -> PlanTrellis.

    The arguments are those of `filter_sequence`. A document's path ends with the run of its last unmasked target:
    the evidence of boundaries after it weighs nothing. Where the first run is itself entered through a boundary, the
    plan before it is summed over and is no part of the path. Differentiable. Raises ValueError as `filter_sequence`,
    and for log-likelihoods of observed targets that are NaN: no path would be the most likely one.
    """
    check_filter_inputs(token_log_probs, log_initial, log_transition, mask)
    segments = segments_of(chunks, token_log_probs, evidence, start_chunk)
    seen = where_true(observed, where_true(mask, to_filter_dtype(token_log_probs)))
    run_log_probs = segments.pack(seen).sum(2)
    if bool(torch.isnan(run_log_probs).any()):  # the filter lets NaN through, so that training can name the loss term
        raise ValueError("token_log_probs must not be NaN where a target is observed; the model may be damaged")
    holds = segments.length > 0
    if mask is not None:
        counted = mask.to(seen).unsqueeze(-1)
        holds = segments.totals(counted).squeeze(-1) > 0
    last, in_path = _paths(holds, segments.restarts)
    enters = segments.crosses & in_path
    if evidence is not None:
        evidence = to_filter_dtype(evidence).masked_fill(~enters.unsqueeze(-1), 0.0)
    log_transition = to_filter_dtype(log_transition)
    batch, _, num_states = run_log_probs.shape
    log_initial = to_filter_dtype(log_initial).expand(batch, num_states)
    again = log_initial if log_restart is None else to_filter_dtype(log_restart).expand(batch, num_states)
    crossed = cross_boundary(log_initial, log_transition, None if evidence is None else evidence[:, 0])
    first = torch.where(enters[:, :1], crossed, log_initial)
    runs = _single_steps(enters, segments.restarts)
    found = filter_sequence(run_log_probs, first, log_transition, runs, evidence=evidence, log_restart=again)
    return PlanTrellis(
        found.log_belief,
        found.log_belief_after,
        found.token_log_prob,
        run_log_probs,
        first,
        again,
        log_transition,
        evidence,
        runs,
        segments,
        in_path.expand(batch, -1),
        last.expand(batch, -1),
    )


def _paths(holds: Tensor, restarts: Tensor) -> tuple[Tensor, Tensor]:
    """holds [B, S], restarts [R, S] (bool) -> last [B, S], in_path [B, S] as in PlanTrellis."""
    count = holds.shape[1]
    restarts = restarts.expand_as(holds)
    index = torch.arange(count, device=holds.device).expand_as(holds)
    begins = torch.where(restarts, index, count).flip(1).cummin(1).values.flip(1)  # the first document start from here
    ends = torch.cat([begins[:, 1:], torch.full_like(begins[:, :1], count)], dim=1)  # where the next document starts
    last = torch.where(holds, index, -1).cummax(1).values.gather(1, ends - 1)
    return last, index <= last


def _single_steps(enters: Tensor, restarts: Tensor) -> Segments:
    """enters [R, S], restarts [R or 1, S] (bool) -> Segments of S runs with one target each."""
    index = torch.arange(enters.shape[1], device=enters.device).expand_as(enters)
    crosses = enters.clone()
    crosses[:, 0] = False  # the first run starts from a belief for which this is done
    return Segments(index, index * 0, index, torch.ones_like(index), restarts.expand_as(enters), crosses, 1, 0)
