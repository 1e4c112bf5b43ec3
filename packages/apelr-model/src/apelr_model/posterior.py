"""What the whole text says about the plan: smoothing, pairs, transition counts, entropy, and fixed lags.

One step back does all of it. Given the next run's plan j, the plan i before the boundary depends on nothing later:
p(i | j, text so far) is in proportion to b(i) P[i, j], with b the filter's belief at the run's end. The evidence of
the boundary weighs every i alike, so it acts through the filter alone. A recursion and not the gradient of the
log-likelihood: that gradient is the smoothed posterior only without evidence (its normaliser is no part of the
likelihood), and this one gives pairs, counts and entropies, and can itself be differentiated once.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import log_normalize, log_sum_exp
from apelr_model.losses import belief_entropy
from apelr_model.trellis import PlanTrellis

__all__ = ["SmoothedPlans", "fixed_lag_plans", "pairwise_plans", "smooth_plans", "step_back"]

BLOCK_ELEMENTS = 2**17
"""Numbers of the [K, K] tables that are made at once where the runs do not depend on each other."""


class SmoothedPlans(NamedTuple):
    """The plans of a batch of rows given each row's whole text; zero (minus infinity) at runs outside a path."""

    log_posterior: Tensor
    """[B, S, K] log p(z_s = k | text); `PlanTrellis.at_targets` gives each target its run's."""
    transition_counts: Tensor
    """[B, K, K] expected number of boundaries with plan i before and j after, given the text."""
    run_entropy: Tensor
    """[B, S] nats: entropy of the run's plan given the text and the next run's plan."""

    @property
    def path_entropy(self) -> Tensor:
        """[B] entropy of the row's whole path of plans given the text, nats."""
        return self.run_entropy.sum(1)


def smooth_plans(trellis: PlanTrellis) -> SmoothedPlans:
    """trellis of [B, S, K] -> SmoothedPlans: p(z_s | whole text), and what follows from pairs of neighbours.

    A document whose text is impossible has log-posterior minus infinity everywhere, and counts and entropy 0.
    """
    crosses, moves = trellis.runs.crosses, trellis.runs.begins
    every_row_crosses = crosses.all(0).tolist()
    log_posterior = [trellis.log_after[:, -1]]
    counts = trellis.log_after.new_zeros(len(trellis.log_after), *trellis.log_transition.shape)
    entropies = [torch.zeros_like(trellis.log_prob[:, :1])]
    for runs in reversed(list(_blocks(trellis, 1, trellis.runs.runs))):
        log_kernels = _log_predecessors(trellis.log_after[:, runs.start - 1 : runs.stop - 1], trellis.log_transition)
        for run in reversed(runs):
            later, ended = log_posterior[-1], trellis.log_after[:, run - 1]
            earlier = _step_back(later, log_kernels[:, run - runs.start])
            if not every_row_crosses[run]:
                at_border = torch.where(moves[:, run].unsqueeze(1), ended, later)  # a document's end, or padding
                earlier = torch.where(crosses[:, run].unsqueeze(1), earlier, at_border)
            log_posterior.append(earlier)
        block = torch.stack(log_posterior[-2 : -2 - len(runs) : -1], dim=1)
        pairs = _log_pairs(block, log_kernels, crosses[:, runs.start : runs.stop]).exp()
        counts = counts + pairs.sum(1)
        entropies.append(-(pairs * log_kernels.masked_fill(log_kernels == -math.inf, 0.0)).sum((-2, -1)))
    smoothed = torch.stack(log_posterior[::-1], dim=1).masked_fill(~trellis.in_path.unsqueeze(-1), -math.inf)
    given_next = torch.cat(entropies[::-1], dim=1)
    last = torch.arange(trellis.runs.runs, device=smoothed.device) == trellis.last
    return SmoothedPlans(smoothed, counts.mT, torch.where(last, belief_entropy(smoothed), given_next))


def pairwise_plans(trellis: PlanTrellis, smoothed: SmoothedPlans) -> Tensor:
    """trellis and SmoothedPlans of [B, S, K] -> log p(z_{s-1} = i, z_s = j | text) [B, S, K, K].

    Minus infinity at runs that no boundary of the path leads into: a row's first, a document's first, padding.
    """
    blocks = [torch.full_like(smoothed.transition_counts, -math.inf).unsqueeze(1)]
    for runs in _blocks(trellis, 1, trellis.runs.runs):
        log_kernels = _log_predecessors(trellis.log_after[:, runs.start - 1 : runs.stop - 1], trellis.log_transition)
        later, crosses = (x[:, runs.start : runs.stop] for x in (smoothed.log_posterior, trellis.runs.crosses))
        blocks.append(_log_pairs(later, log_kernels, crosses).mT)
    return torch.cat(blocks, dim=1)


def fixed_lag_plans(trellis: PlanTrellis, lag: int) -> Tensor:
    """trellis of [B, S, K] -> log p(z_s = k | text up to the end of run s + lag) [B, S, K].

    `lag` counts chunks (runs); 0 is the filter's belief at the run's end. A document's end ends the window. Minus
    infinity at runs outside a path. Raises ValueError for a negative lag.
    """
    if lag < 0:
        raise ValueError(f"lag must be >= 0, got {lag}")
    count = trellis.runs.runs
    return torch.cat([_fixed_lag(trellis, runs, min(lag, count - 1)) for runs in _blocks(trellis, 0, count)], dim=1)


def _fixed_lag(trellis: PlanTrellis, runs: range, lag: int) -> Tensor:
    """The window's posterior [B, n, K] at the n runs of `runs`."""
    index = torch.arange(runs.start, runs.stop, device=trellis.last.device)
    last = trellis.last[:, runs.start : runs.stop]
    log_posterior = _runs_of(trellis.log_after, torch.minimum(index + lag, last))
    for step in range(lag, 0, -1):
        ended = _runs_of(trellis.log_after, torch.minimum(index + step - 1, last))
        earlier = step_back(log_posterior, ended, trellis.log_transition)
        log_posterior = torch.where((index + step <= last).unsqueeze(-1), earlier, log_posterior)
    return log_posterior.masked_fill(~trellis.in_path[:, runs.start : runs.stop].unsqueeze(-1), -math.inf)


def _log_predecessors(log_belief: Tensor, log_transition: Tensor) -> Tensor:
    """log_belief [..., K] at a run's end -> log p(this run's plan = i | the next one's = j) [..., K (j), K (i)].

    Minus infinity for every i where no possible plan leads to j.
    """
    return log_normalize(log_belief.unsqueeze(-2) + log_transition.T.contiguous())


def _step_back(log_posterior: Tensor, log_predecessors: Tensor) -> Tensor:
    """log_posterior [..., K] of the next run -> that of the run before the boundary."""
    return log_sum_exp(log_posterior.unsqueeze(-1) + log_predecessors, -2)


def step_back(log_posterior: Tensor, log_belief: Tensor, log_transition: Tensor) -> Tensor:
    """log_posterior [..., K] of a run, log_belief [..., K] at the end of the one before it -> that one's posterior."""
    return _step_back(log_posterior, _log_predecessors(log_belief, log_transition))


def _log_pairs(log_posterior: Tensor, log_predecessors: Tensor, crosses: Tensor) -> Tensor:
    """log_posterior [B, n, K] of runs, crosses [R, n] -> log p(j in it, i before it | text) [B, n, K (j), K (i)]."""
    return log_posterior.masked_fill(~crosses.unsqueeze(-1), -math.inf).unsqueeze(-1) + log_predecessors


def _blocks(trellis: PlanTrellis, start: int, stop: int) -> Iterator[range]:
    """The runs from `start` to `stop` in blocks whose [K, K] tables have a bounded size."""
    batch, _, num_states = trellis.log_after.shape
    size = max(1, BLOCK_ELEMENTS // (batch * num_states * num_states))
    for first in range(start, stop, size):
        yield range(first, min(first + size, stop))


def _runs_of(values: Tensor, index: Tensor) -> Tensor:
    """values [B, S, K], index [B, n] (negative: any run will do) -> [B, n, K]."""
    return values.gather(1, index.where(index >= 0, 0).unsqueeze(-1).expand(-1, -1, values.shape[-1]))
