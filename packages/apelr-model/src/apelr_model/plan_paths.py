"""Whole paths of plans: the most likely one (Viterbi), exact samples from the posterior, and a path's probability.

Both go forward through the filter's recursion and then trace one plan for each run from the end: with sums on the way
forward and a draw at each step back the path is a sample, with maxima and the best state it is the most likely path.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.arithmetic import LogArithmetic, within_by_conditioning
from apelr_model.belief import log_normalize
from apelr_model.filter import filter_sequence
from apelr_model.trellis import PlanTrellis

__all__ = ["PlanPaths", "plan_path_log_prob", "sample_plans", "viterbi_plans"]


class PlanPaths(NamedTuple):
    """One plan state for each run, and how probable the whole path is. N, the number of samples, is absent for one."""

    plans: Tensor
    """[B, S] or [N, B, S] plan states; -1 at runs outside a path and in documents whose text is impossible."""
    log_posterior: Tensor
    """[B] or [N, B] log p(path | text) of the row's whole path, nats; minus infinity where its text is impossible."""


class _MaxArithmetic(LogArithmetic):
    """The filter with maxima for sums: weights of the best path that ends in each state, the best of all at 0."""

    def condition(self, belief: Tensor, token_log_probs: Tensor) -> Tensor:
        """belief [..., K], token_log_probs [..., K] -> [..., K], the best path prolonged by the observation."""
        return _best_at_zero(belief + token_log_probs)

    def cross(self, belief: Tensor, log_transition: Tensor, evidence: Tensor | None) -> Tensor:
        """belief [..., K] -> [..., K] in the next chunk, reached by the best way."""
        ahead = (belief.unsqueeze(-1) + log_transition).amax(-2)
        return _best_at_zero(ahead if evidence is None else ahead + evidence)

    def within(self, belief: Tensor, so_far: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """belief [..., K], so_far [..., L, K] -> before and after [..., L, K]."""
        return within_by_conditioning(self, belief, so_far)

    def expect(self, gate: Tensor, token_log_probs: Tensor) -> Tensor:
        """gate [..., K], token_log_probs [..., K] -> [...], the best of the states."""
        return (gate + token_log_probs).amax(-1)


def viterbi_plans(trellis: PlanTrellis) -> PlanPaths:
    """trellis of [B, S, K] -> PlanPaths of [B, S]: each document's most likely path given its whole text.

    Of equally likely paths one is given. No gradient.
    """
    with torch.no_grad():
        best = filter_sequence(
            trellis.run_log_probs,
            trellis.log_initial,
            trellis.log_transition,
            trellis.runs,
            evidence=trellis.evidence,
            log_restart=trellis.log_restart,
            arithmetic=_MaxArithmetic(),
        )
        plans = _trace(trellis, best.log_belief_after.unsqueeze(0), lambda weights: weights.argmax(-1))[0]
        return PlanPaths(plans, plan_path_log_prob(trellis, plans))


def sample_plans(trellis: PlanTrellis, count: int, *, generator: torch.Generator | None = None) -> PlanPaths:
    """trellis of [B, S, K] -> PlanPaths of [count, B, S]: independent exact samples from p(path | text).

    Forward filtering, backward sampling. `generator` lives on the trellis's device; default: torch's own. Raises
    ValueError for a count below 1. No gradient.
    """
    if count < 1:
        raise ValueError(f"count must be >= 1, got {count}")

    def draw(weights: Tensor) -> Tensor:
        # Rows without a possible plan are marked afterwards; here they must only not stop the others.
        possible = weights.masked_fill((weights == -math.inf).all(-1, keepdim=True), 0.0).softmax(-1)
        return torch.multinomial(possible.flatten(0, 1), 1, generator=generator).view(possible.shape[:2])

    with torch.no_grad():
        plans = _trace(trellis, trellis.log_after.expand(count, -1, -1, -1), draw)
        return PlanPaths(plans, plan_path_log_prob(trellis, plans))


def plan_path_log_prob(trellis: PlanTrellis, plans: Tensor) -> Tensor:
    """trellis of [B, S, K], plans [..., B, S] -> log p(path | text) [..., B], nats; differentiable.

    Every plan outside a path is passed over. Minus infinity for an impossible path, and for -1 inside a path. Raises
    ValueError where the shape does not fit or a plan is none of the K states.
    """
    batch, count, num_states = trellis.log_after.shape
    if plans.shape[-2:] != (batch, count):
        raise ValueError(f"plans must be [..., B, S] with B, S = {batch}, {count}, got {list(plans.shape)}")
    plans = plans.to(trellis.log_after.device)
    if bool((plans >= num_states).any()) or bool((plans < -1).any()):
        raise ValueError(f"plans must be -1 or a state from 0 to {num_states - 1}")
    unknown = ((plans < 0) & trellis.in_path).any(-1)
    chosen = plans.where(plans >= 0, 0)
    total = torch.zeros(plans.shape[:-1], dtype=torch.float64, device=plans.device)
    for run in range(count):
        weights = trellis.log_after[:, run]
        if run + 1 < count:
            weights = weights + _into(trellis, run + 1, chosen[..., run + 1])
        term = log_normalize(weights.expand(*plans.shape[:-1], num_states)).gather(-1, chosen[..., run : run + 1])
        counts = trellis.in_path[:, run]
        total = total + torch.where(counts, term.squeeze(-1), 0.0)
    return total.masked_fill(unknown, -math.inf)


def _trace(trellis: PlanTrellis, log_after: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """log_after [N, B, S, K] -> plans [N, B, S], last run first; `pick` maps log-weights [N, B, K] to [N, B]."""
    plans = [pick(log_after[:, :, -1])]
    for run in range(trellis.runs.runs - 1, 0, -1):
        later = plans[-1]
        picked = pick(log_after[:, :, run - 1] + _into(trellis, run, later))
        plans.append(torch.where(trellis.runs.begins[:, run], picked, later))  # padding has no plan of its own
    path = torch.stack(plans[::-1], dim=-1)
    possible = (trellis.log_after.amax(-1) > -math.inf).gather(1, trellis.last.where(trellis.last >= 0, 0))
    return path.masked_fill(~(trellis.in_path & possible), -1)


def _into(trellis: PlanTrellis, run: int, plans: Tensor) -> Tensor:
    """plans [..., B] of run `run` -> log-weights [..., B, K] of the plan before it; 0 where no boundary is between."""
    moves = trellis.log_transition.T[plans]
    return moves.masked_fill(~trellis.runs.crosses[:, run].unsqueeze(-1), 0.0)


def _best_at_zero(log_weights: Tensor) -> Tensor:
    """log_weights [..., K] less their maximum, so that long texts keep their precision; nothing possible stays so."""
    best = log_weights.amax(-1, keepdim=True)
    return log_weights - best.masked_fill(best == -math.inf, 0.0)
