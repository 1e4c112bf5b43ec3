"""The exact plan filter over whole batches, without a loop over tokens.

Inside a chunk the plan does not change, so the beliefs there are a cumulative sum of token log-likelihoods; from
chunk to chunk one vector-matrix product carries them on. The steps themselves are in belief.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.arithmetic import LOG_ARITHMETIC, Arithmetic
from apelr_model.belief import to_filter_dtype
from apelr_model.chain import run_starts
from apelr_model.running_sum import running_sum
from apelr_model.segments import Segments, build_segments

__all__ = [
    "FilterResult",
    "check_filter_inputs",
    "filter_sequence",
    "segments_of",
    "where_true",
]


class FilterResult(NamedTuple):
    """What the filter knows about every target of a batch."""

    log_belief: Tensor
    """[B, T, K] log-probability of each plan state BEFORE the target is seen: log b_t(k)."""
    log_belief_after: Tensor
    """[B, T, K] the same AFTER the target is seen, before any boundary is crossed."""
    token_log_prob: Tensor
    """[B, T] log p(y_t | x_<=t) in nats, summed over plan states; 0 where masked."""
    log_gate: Tensor
    """[B, T, K] log-weights of the plan states in the target's prediction: `log_belief` unless a gate was given."""
    log_start: Tensor
    """[B, S, K] belief at the start of each run of targets, boundary crossed, before any commitment."""
    start: Tensor
    """[B, S, K] probabilities that the run was then filtered from: `log_start` unless committed."""


def filter_sequence(
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
    gate: Callable[[Tensor], Tensor] | None = None,
    arithmetic: Arithmetic = LOG_ARITHMETIC,
) -> FilterResult:
    """token_log_probs [B, T, K], log_initial [K] or [B, K], log_transition [K, K] -> FilterResult of [B, T, ...].

    `chunks` holds the chunk of each of the T targets; a boundary is crossed before a target whose chunk differs from
    the one before it (`start_chunk` before the first). `ChunkRule.segments` makes the other form, which also knows
    rows that differ and restarts, where the belief becomes `log_restart` [K] (default: `log_initial`). `evidence`
    [B, S, K] holds one row of log-weights for each of the S chunks (runs) present, used where that chunk is entered
    through a boundary. `mask` [B, T] is False at padding: nothing is observed there, and the clock runs on.
    `observed` [B, T] is False at further targets that are predicted but that the belief does not learn from. `gate`
    maps the beliefs to the weights of the prediction; `arithmetic` says how beliefs are written down.

    To go on later, pass `log_belief_after[:, -1]` as `log_initial` and the last chunk as `start_chunk`.
    Raises ValueError where shapes disagree or a sequence of chunks does not grow by 0 or 1.
    """
    check_filter_inputs(token_log_probs, log_initial, log_transition, mask)
    segments = segments_of(chunks, token_log_probs, evidence, start_chunk)
    seen = where_true(mask, to_filter_dtype(token_log_probs))
    so_far = running_sum(segments.pack(where_true(observed, seen)))  # [B, S, longest run, K]
    log_starts, starts = run_starts(
        so_far[:, :, -1], log_initial, log_restart, log_transition, segments, evidence, arithmetic
    )
    in_runs = arithmetic.within(starts, so_far)
    before, after = segments.unpack(in_runs[0]), segments.unpack(in_runs[1])
    weights = before if gate is None else gate(before)
    if weights is before and observed is None and in_runs[2] is not None:
        token_log_prob = segments.unpack(in_runs[2].unsqueeze(-1)).squeeze(-1)
    else:
        token_log_prob = arithmetic.expect(weights, seen)
    if mask is not None:
        token_log_prob = token_log_prob.masked_fill(~mask.to(seen.device), 0.0)
    return FilterResult(
        arithmetic.log(before),
        arithmetic.log(after),
        token_log_prob,
        arithmetic.log(weights),
        log_starts,
        arithmetic.log(starts).exp() if arithmetic is LOG_ARITHMETIC else starts,
    )


def where_true(wanted: Tensor | None, values: Tensor) -> Tensor:
    """values [B, T, K], zero where `wanted` [B, T] is False; None wants all."""
    return values if wanted is None else values.masked_fill(~wanted.to(values.device).unsqueeze(-1), 0.0)


def check_filter_inputs(
    token_log_probs: Tensor, log_initial: Tensor, log_transition: Tensor, mask: Tensor | None
) -> None:
    """token_log_probs [B, T, K], log_initial [K] or [B, K], log_transition [K, K], mask [B, T]: else ValueError."""
    if token_log_probs.ndim != 3 or 0 in token_log_probs.shape:
        raise ValueError(f"token_log_probs must be [B, T, K], not empty, got {list(token_log_probs.shape)}")
    batch, steps, num_states = token_log_probs.shape
    if log_initial.shape not in ((num_states,), (batch, num_states)):
        raise ValueError(f"log_initial must be [K] or [B, K], got {list(log_initial.shape)}")
    if log_transition.shape != (num_states, num_states):
        expected = [num_states, num_states]
        raise ValueError(f"log_transition must be [K, K] = {expected}, got {list(log_transition.shape)}")
    if mask is not None and mask.shape != (batch, steps):
        raise ValueError(f"mask must be [B, T] = {[batch, steps]}, got {list(mask.shape)}")


def segments_of(
    chunks: Sequence[int] | Segments, token_log_probs: Tensor, evidence: Tensor | None, start_chunk: int
) -> Segments:
    """token_log_probs [B, T, K], evidence [B, S, K] -> the runs, on the filter's device; ValueError if they clash."""
    segments = chunks if isinstance(chunks, Segments) else _segments_of_row(chunks, token_log_probs, start_chunk)
    _check_segments(token_log_probs, segments, evidence)
    return segments.to(to_filter_dtype(token_log_probs[:0]).device)


def _segments_of_row(chunk_index: Sequence[int], token_log_probs: Tensor, start_chunk: int) -> Segments:
    steps = token_log_probs.shape[1]
    if len(chunk_index) != steps:
        raise ValueError(f"chunks must have one entry for each of the {steps} targets, got {len(chunk_index)}")
    grows = [b - a for a, b in zip([start_chunk, *chunk_index[:-1]], chunk_index, strict=True)]
    if any(step not in (0, 1) for step in grows):
        raise ValueError(f"chunks must start at start_chunk ({start_chunk}) or one above and grow by 0 or 1")
    crosses = torch.tensor([grows]) == 1
    return build_segments(restarts=torch.zeros_like(crosses), crosses=crosses)


def _check_segments(token_log_probs: Tensor, segments: Segments, evidence: Tensor | None) -> None:
    batch, steps, num_states = token_log_probs.shape
    rows, columns = segments.number.shape
    if columns != steps or rows not in (1, batch):
        raise ValueError(f"the segments are of [{rows}, {columns}] targets, token_log_probs has [{batch}, {steps}]")
    expected = [batch, segments.runs, num_states]
    if evidence is not None and list(evidence.shape) != expected:
        raise ValueError(f"evidence must be [B, S, K] = {expected}, got {list(evidence.shape)}")
