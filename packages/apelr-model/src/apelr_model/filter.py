"""The exact plan filter: pure functions of tensors, in log space, with no epsilon.

A belief is a normalised vector of log-probabilities over K plan states; minus infinity is zero. The
recursion (docs/notation.md) has three parts, each written once: `condition` on an observed token,
`cross_boundary` into the next chunk, and `forecast` chunks that have not been reached. `filter_sequence`
applies the first two to a whole batch without a loop over tokens: inside a chunk the plan does not
change, so the beliefs there are a cumulative sum of token log-likelihoods.

Beliefs and their sums are float64 whatever comes in, because a float32 sum over a long chunk loses
tenths of a nat. Where the device has no float64 (MPS), the filter runs on the CPU and its results stay
there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "FilterResult",
    "condition",
    "cross_boundary",
    "filter_sequence",
    "forecast",
    "log_mean_state",
    "log_normalize",
    "to_filter_dtype",
]


class FilterResult(NamedTuple):
    """What the filter knows about every target of a batch."""

    log_belief: Tensor
    """[B, T, K] log-probability of each plan state BEFORE the target is seen: log b_t(k)."""
    log_belief_after: Tensor
    """[B, T, K] the same AFTER the target is seen, before any boundary is crossed."""
    token_log_prob: Tensor
    """[B, T] log p(y_t | x_<=t) in nats, summed over plan states; 0 where masked."""


def to_filter_dtype(tensor: Tensor) -> Tensor:
    """any [...] -> float64 [...], on the same device, or on the CPU where the device has no float64."""
    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.double()


def log_sum_exp(values: Tensor, dim: int) -> Tensor:
    """log-values [..., n, ...] -> log of their summed exponentials, without `dim`.

    Unlike `torch.logsumexp` its gradient is 0, not NaN, where every value is minus infinity.
    """
    peak = values.detach().amax(dim, keepdim=True)
    peak = peak.masked_fill(peak == -math.inf, 0.0)
    total = (values - peak).exp().sum(dim)
    empty = total == 0
    return (total.masked_fill(empty, 1.0).log() + peak.squeeze(dim)).masked_fill(empty, -math.inf)


def log_normalize(log_weights: Tensor) -> Tensor:
    """log-weights [..., K] -> log-probabilities [..., K]; all-minus-infinity stays as it is."""
    log_total = log_sum_exp(log_weights, -1)
    return log_weights - log_total.masked_fill(log_total == -math.inf, 0.0).unsqueeze(-1)


def condition(log_belief: Tensor, token_log_probs: Tensor) -> Tensor:
    """log_belief [..., K], token_log_probs [..., K] -> log_belief [..., K] after the observation.

    Bayes' rule: log b <- log_softmax(log b + l). `token_log_probs` may be the sum over several
    observations that share one plan state. An observation impossible under every plan that is still
    possible gives minus infinity everywhere.
    """
    return log_normalize(to_filter_dtype(log_belief) + to_filter_dtype(token_log_probs))


def cross_boundary(log_belief: Tensor, log_transition: Tensor, evidence: Tensor | None = None) -> Tensor:
    """log_belief [..., K], log_transition [K, K] (row: from, column: to) -> log_belief [..., K] in the next chunk.

    log b <- log_softmax(log(b P) + e), with e the boundary evidence [..., K] (log-weights; None is 0).
    The normaliser of the evidence is no probability of any token and never enters a likelihood.
    """
    log_joint = to_filter_dtype(log_belief).unsqueeze(-1) + to_filter_dtype(log_transition)
    log_next = log_sum_exp(log_joint, -2)
    return log_normalize(log_next if evidence is None else log_next + to_filter_dtype(evidence))


def forecast(log_belief: Tensor, log_transition: Tensor, steps: int) -> Tensor:
    """log_belief [..., K], log_transition [K, K] -> log-probabilities [..., steps, K] of b P^s, s = 1 ... steps.

    The exact lookahead: a prior over coming chunks that conditions on no text not yet produced.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    ahead = [cross_boundary(log_belief, log_transition)]
    while len(ahead) < steps:
        ahead.append(cross_boundary(ahead[-1], log_transition))
    return torch.stack(ahead, dim=-2)


def log_mean_state(log_belief: Tensor, state_log_probs: Tensor) -> Tensor:
    """log_belief [..., K], state_log_probs [..., K] or [..., K, V] -> mixture log-probabilities [...] or [..., V].

    log sum_k b(k) p(. | k), in the dtype and on the device of `log_belief` for a [..., K] argument and of
    `state_log_probs` for a [..., K, V] argument.
    """
    if state_log_probs.ndim == log_belief.ndim:
        return log_sum_exp(log_belief + to_filter_dtype(state_log_probs), -1)
    return log_sum_exp(log_belief.to(state_log_probs).unsqueeze(-1) + state_log_probs, -2)


def filter_sequence(
    token_log_probs: Tensor,
    log_initial: Tensor,
    log_transition: Tensor,
    chunk_index: Sequence[int],
    *,
    evidence: Tensor | None = None,
    mask: Tensor | None = None,
    start_chunk: int = 0,
) -> FilterResult:
    """token_log_probs [B, T, K], log_initial [K] or [B, K], log_transition [K, K] -> FilterResult of [B, T, ...].

    `chunk_index` holds the chunk of each of the T targets; a boundary is crossed before a target whose
    chunk differs from the one before it (`start_chunk` before the first). `evidence` [B, C, K] holds one
    row of log-weights for each of the C chunks present, used where that chunk is entered through a
    boundary. `mask` [B, T] is False at padding: nothing is observed there, and the clock runs on.

    To go on later, pass `log_belief_after[:, -1]` as `log_initial` and the last chunk as `start_chunk`.
    Raises ValueError where shapes disagree or `chunk_index` does not grow by 0 or 1.
    """
    _check_shapes(token_log_probs, log_initial, log_transition, mask)
    _check_chunks(token_log_probs, chunk_index, evidence, start_chunk)
    batch, _, num_states = token_log_probs.shape
    observed = to_filter_dtype(token_log_probs)
    if mask is not None:
        observed = observed.masked_fill(~mask.to(observed.device).unsqueeze(-1), 0.0)
    grid = _ChunkGrid(chunk_index, observed.device)
    by_chunk = grid.pack(observed)  # [B, C, longest chunk, K]
    seen_after = by_chunk.cumsum(2)
    seen_before = torch.cat([torch.zeros_like(by_chunk[:, :, :1]), seen_after[:, :, :-1]], dim=2)

    log_belief = to_filter_dtype(log_initial).expand(batch, num_states)
    chunk_starts = []
    for chunk in range(by_chunk.shape[1]):
        if chunk > 0 or chunk_index[0] > start_chunk:
            at_boundary = None if evidence is None else evidence[:, chunk]
            log_belief = cross_boundary(log_belief, log_transition, at_boundary)
        chunk_starts.append(log_belief)
        log_belief = condition(log_belief, seen_after[:, chunk, -1])
    log_start = torch.stack(chunk_starts, dim=1).unsqueeze(2)  # [B, C, 1, K]

    before = grid.unpack(condition(log_start, seen_before))
    after = grid.unpack(condition(log_start, seen_after))
    token_log_prob = log_mean_state(before, observed)
    if mask is not None:
        token_log_prob = token_log_prob.masked_fill(~mask.to(observed.device), 0.0)
    return FilterResult(before, after, token_log_prob)


class _ChunkGrid:
    """Moves [B, T, K] to one row per chunk, [B, C, longest chunk, K], padded with zeros, and back."""

    def __init__(self, chunk_index: Sequence[int], device: torch.device) -> None:
        starts = [t for t, c in enumerate(chunk_index) if t == 0 or c != chunk_index[t - 1]]
        lengths = [b - a for a, b in zip(starts, [*starts[1:], len(chunk_index)], strict=True)]
        self.shape = (len(starts), max(lengths))
        column = torch.arange(self.shape[1])
        inside = column < torch.tensor(lengths).unsqueeze(1)  # [C, longest]
        position = torch.where(inside, torch.tensor(starts).unsqueeze(1) + column, 0)
        self.regular = bool(inside.all())
        self.position = position.flatten().to(device)
        self.padding = ~inside.flatten().to(device)
        self.cell = inside.flatten().nonzero().squeeze(1).to(device)

    def pack(self, values: Tensor) -> Tensor:
        """values [B, T, K] -> [B, C, longest chunk, K]."""
        if not self.regular:
            values = values.index_select(1, self.position).masked_fill(self.padding.unsqueeze(-1), 0.0)
        return values.reshape(values.shape[0], *self.shape, values.shape[-1])

    def unpack(self, values: Tensor) -> Tensor:
        """values [B, C, longest chunk, K] -> [B, T, K]."""
        values = values.flatten(1, 2)
        return values if self.regular else values.index_select(1, self.cell)


def _check_shapes(token_log_probs: Tensor, log_initial: Tensor, log_transition: Tensor, mask: Tensor | None) -> None:
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


def _check_chunks(
    token_log_probs: Tensor, chunk_index: Sequence[int], evidence: Tensor | None, start_chunk: int
) -> None:
    batch, steps, num_states = token_log_probs.shape
    if len(chunk_index) != steps:
        raise ValueError(f"chunk_index must have one entry for each of the {steps} targets, got {len(chunk_index)}")
    previous = [start_chunk, *chunk_index[:-1]]
    if any(b - a not in (0, 1) for a, b in zip(previous, chunk_index, strict=True)):
        raise ValueError(f"chunk_index must start at start_chunk ({start_chunk}) or one above and grow by 0 or 1")
    chunks = len(set(chunk_index))
    if evidence is not None and evidence.shape != (batch, chunks, num_states):
        raise ValueError(f"evidence must be [B, C, K] = {[batch, chunks, num_states]}, got {list(evidence.shape)}")
