"""What planner diagnostics are made of: sums over one batch that add up over batches."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from apelr_model.batch_statistics import BatchStatistics, chunk_starts, mixture_statistics, recognizer_kl
from apelr_model.belief import log_mean_state, to_filter_dtype
from apelr_model.carried_plan import CarriedPlan
from apelr_model.config import V2Config
from apelr_model.emissions import gate_information
from apelr_model.gate import log_gate
from apelr_model.losses import belief_entropy, kl_to_uniform, state_persistence
from apelr_model.plan_divergence import pairwise_js_sums
from apelr_model.plan_variants import refilter, swapped_rows, without_memory
from apelr_model.planner import FilterPlanner
from apelr_model.planner_lm import PlannerLM
from apelr_model.planner_versions import V1Planner, V2Planner
from apelr_model.policy import PlanPolicy
from apelr_model.state_words import vocabulary_sums

__all__ = [
    "VARIANTS",
    "Means",
    "StateSums",
    "compared_every",
    "measure_beliefs",
    "measure_chunks",
    "measure_distributions",
    "measure_filter",
    "measure_gates",
    "utilization",
]

VARIANTS = ("reset", "no_evidence")
"""Beliefs that are filtered again with something changed."""
PAIRS = 64
"""Pairs of states (K^2) up to which they are compared at every target; with more, at an even sample of them."""


class Means:
    """Sums and counts by name."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, total: float | Tensor, count: int) -> None:
        """`total` is the sum of `count` values."""
        self._sums[name] = self._sums.get(name, 0.0) + float(total)
        self._counts[name] = self.count(name) + count

    def count(self, name: str) -> int:
        """Values added as `name`."""
        return self._counts.get(name, 0)

    def mean(self, name: str) -> float | None:
        """The mean of what was added as `name`; None where nothing was."""
        count = self.count(name)
        return self._sums[name] / count if count else None

    def delta(self, name: str) -> float | None:
        """The mean that was added as `name`, less the NLL itself."""
        changed, nll = self.mean(name), self.mean("nll")
        return None if changed is None or nll is None else changed - nll


class StateSums:
    """Sums [K, ...] by name; their counts are the targets', or the chunks'."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor) -> None:
        """total [K, ...] of one batch."""
        self.totals[name] = self.totals[name] + total if name in self.totals else total


def _nll(found: BatchStatistics, log_gate: Tensor) -> Tensor:
    """log_gate [N, K] -> NLL [N] of the targets under other gates."""
    valid = found.batch.valid
    return -log_mean_state(log_gate, to_filter_dtype(found.reading.state_log_probs[valid]))


def measure_gates(model: PlannerLM, found: BatchStatistics, policy: PlanPolicy, means: Means) -> None:
    """The same beliefs, other gates."""
    count = len(found.token_nll)
    uniform = torch.full_like(found.log_gate, -math.log(model.num_plan_states))
    means.add("mask", _nll(found, uniform).sum(), count)
    if isinstance(model.config, V2Config):
        losses = found.token_nll
        if policy.feedback_scale != 0:
            plain = log_gate(found.log_belief, model.log_transition(), replace(policy, feedback_scale=0.0))
            losses = _nll(found, plain)
        means.add("feedback", losses.sum(), count)
    filtered, valid = found.reading.filtered, found.batch.valid.to(found.log_gate.device)
    swapped, both = swapped_rows(filtered.log_gate, valid)
    emissions = to_filter_dtype(found.reading.state_log_probs)[both]
    change = filtered.token_log_prob[both] - log_mean_state(swapped[both], emissions)
    means.add("shuffled", change.sum(), int(both.sum()))


def measure_beliefs(
    model: PlannerLM, found: BatchStatistics, policy: PlanPolicy, means: Means, carried: Mapping[str, CarriedPlan]
) -> None:
    """Other beliefs, by the filter itself; `carried` are those that each of `VARIANTS` goes on with from row to row."""
    planner, evidence = model.planner, found.reading.evidence
    if not isinstance(planner, FilterPlanner):
        return
    transition = planner.log_transition()
    never_learnt = to_filter_dtype(planner.log_initial()).expand_as(found.log_belief)
    means.add("frozen", _nll(found, log_gate(never_learnt, transition, policy)).sum(), len(found.token_nll))
    forgetful = without_memory(transition, planner.log_initial())
    changes = {"reset": (forgetful, evidence), "no_evidence": (transition, None)}
    for name in VARIANTS if evidence is not None else VARIANTS[:1]:
        chain, weights = changes[name]
        filtered = refilter(planner, found, policy, log_transition=chain, evidence=weights, carried=carried[name])
        means.add(name, -filtered.token_log_prob.sum(), len(found.token_nll))


def measure_filter(model: PlannerLM, found: BatchStatistics, means: Means, states: StateSums) -> None:
    """Beliefs after each target, and V1's recognizer at chunk ends."""
    planner = model.planner
    if not isinstance(planner, FilterPlanner):
        return
    means.add("belief_entropy", belief_entropy(found.log_belief_after).sum(), len(found.token_nll))
    states.add("usage_after", found.log_belief_after.exp().sum(0))
    if isinstance(planner, V1Planner):
        divergence = recognizer_kl(planner, found)
        means.add("chunk_post_kl", divergence.double().sum(), len(divergence))


def measure_chunks(model: PlannerLM, found: BatchStatistics, means: Means, states: StateSums) -> None:
    """Usage, persistence and the contrastive loss, by the beliefs at chunk starts."""
    planner = model.planner
    if not isinstance(planner, FilterPlanner):
        states.add("usage", found.log_gate.exp().sum(0))
        return
    starts = chunk_starts(model, found)
    valid = starts.valid.to(starts.state.device)
    states.add("usage", starts.state[valid].sum(0))
    means.add("boundary_entropy", belief_entropy(starts.log_belief[valid]).sum(), int(valid.sum()))
    same, boundaries = state_persistence(starts.state, valid)
    means.add("persistence", same, int(boundaries))
    if isinstance(planner, V2Planner) and planner.future_horizon and int(boundaries):
        contrast = planner.future_contrast(starts.state, starts.summary, starts.valid)
        chunks = int(valid.sum())
        means.add("contrast", contrast * chunks, chunks)


def measure_distributions(model: PlannerLM, found: BatchStatistics, means: Means, states: StateSums) -> None:
    """What needs every state's probability of every token."""
    if isinstance(model.planner, V1Planner):
        mixed = mixture_statistics(model, found)
        information = mixed.plan_mi
        means.add("chunk_bow", mixed.chunk_bow.double().sum(), len(mixed.chunk_bow))
    else:  # bags of words cost more than the information alone
        information = gate_information(model.head, found.hidden, found.log_gate)
    means.add("mi", information.double().sum(), len(information))
    compared = found.hidden[:: compared_every(model.num_plan_states)]
    states.add("divergence", pairwise_js_sums(model.head, compared))
    means.add("compared", 0.0, len(compared))
    sums = vocabulary_sums(model.head, found.hidden, found.log_gate)
    states.add("words", sums.states)
    states.add("mixture", sums.mixture)
    states.add("forced", -to_filter_dtype(found.reading.state_log_probs[found.batch.valid]).sum(0))


def compared_every(num_plan_states: int) -> int:
    """1 up to 8 states, then ceil(K^2 / PAIRS), made odd: an even number could keep step with chunks and rows."""
    every = math.ceil(num_plan_states**2 / PAIRS)
    return every if every % 2 else every + 1


def utilization(usage: Tensor) -> float:
    """usage [K] (probabilities, K >= 2) -> entropy / log K, 0 to 1."""
    return min(1.0, max(0.0, 1 - float(kl_to_uniform(usage)) / math.log(len(usage))))
