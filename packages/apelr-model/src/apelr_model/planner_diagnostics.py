"""Does the plan matter? Interventions on the planner of a trained model, measured on held-out text."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.batch_statistics import read_batches
from apelr_model.batches import TokenBatch
from apelr_model.belief import to_filter_dtype
from apelr_model.carried_plan import CarriedPlan
from apelr_model.diagnostic_measures import (
    VARIANTS,
    Means,
    StateSums,
    measure_beliefs,
    measure_chunks,
    measure_distributions,
    measure_filter,
    measure_gates,
    utilization,
)
from apelr_model.losses import kl_to_uniform
from apelr_model.plan_divergence import mean_of_pairs
from apelr_model.plan_variants import stationary_distribution
from apelr_model.planner import FilterPlanner
from apelr_model.planner_lm import PlannerLM
from apelr_model.planner_versions import V1Planner
from apelr_model.policy import PlanPolicy
from apelr_model.scoring import eval_mode
from apelr_model.state_words import RaisedToken, VocabularySums, raised_tokens

__all__ = ["PlanStateDiagnostics", "PlannerDiagnostics", "planner_diagnostics"]


class PlanStateDiagnostics(NamedTuple):
    """One plan state."""

    usage: float
    """Mean belief at chunk starts (without chunks: mean gate over targets)."""
    forced_nll: float
    """NLL with every token from this state alone, nats per target."""
    tokens: tuple[RaisedToken, ...]
    """Tokens that this state raises most above the mixture, by lift."""
    transition: tuple[float, ...] | None
    """[K] row of P: the next chunk's plan from this one; None without a chain of plans."""
    stationary: float | None
    """Share of chunks in the long run, by P alone; None without a chain of plans."""


class PlannerDiagnostics(NamedTuple):
    """Means over an evaluation set, each row read from its own start (where rows go on, the belief is carried).

    Losses are in nats per target. A `..._delta_loss` is the NLL with the planner changed minus the NLL as it is:
    positive where the planner helps. None where a model has no such thing, or the rows hold nothing to measure it on.
    """

    targets: int
    nll: float
    """With the filter and policy as used in sampling."""
    planner_mask_delta_loss: float | None
    """Every plan state has the same weight."""
    shuffled_belief_delta_loss: float | None
    """The gate of target t in row b is that of target t in row (b + B // 2) mod B of the batch of B rows; over the
    targets at which both rows have one, for both NLLs. (The gate is a function of the belief alone.)"""
    frozen_delta_loss: float | None
    """The belief is pi throughout: neither tokens nor boundaries change it (a policy's `freeze_after` 0)."""
    boundary_reset_delta_loss: float | None
    """At each chunk boundary the belief is forgotten: the chain's stationary distribution takes the place of b P, and
    the boundary's evidence is added to it as ever."""
    evidence_off_delta_loss: float | None
    """No evidence at boundaries; None in a model that has none."""
    feedback_delta_loss: float | None
    """No lookahead feedback in the gate (0 where there is none to begin with); V2 alone."""
    forced_state_divergence: float | None
    """Jensen-Shannon divergence of the next-token distributions of states 0 and 1, mean over targets; with K > 8 states
    over every n-th target of a batch, n being K^2 / 64 rounded up to an odd number."""
    forced_state_matrix: tuple[tuple[float, ...], ...] | None
    """[K][K] the same for every pair of states."""
    plan_js_div_loss: float | None
    """Mean of that matrix over the pairs of two states."""
    plan_mi: float | None
    """Mutual information of plan state and next token under the gate."""
    state_persistence: float | None
    """Share of chunk boundaries at which the most likely state stays the same."""
    expert_utilization: float | None
    """Entropy of the states' usage / log K, 0 to 1."""
    usage_kl_to_uniform: float | None
    """V1: KL(mean belief after the target || uniform), over all targets. V2 and controls: KL(the states' usage ||
    uniform), log K less that entropy; V2's usage is over chunk starts. Nats."""
    belief_entropy: float | None
    """Entropy of the belief after each target, mean over targets, nats; None without a chain of plans."""
    chunk_bow: float | None
    """V1's bag-of-words cross-entropy of a chunk under the belief at its start, mean over chunks, nats a token."""
    chunk_post_kl: float | None
    """Symmetric KL of V1's recognizer and the belief after a chunk's last target, mean over chunks, nats."""
    boundary_entropy: float | None
    """Entropy of the beliefs at chunk starts, mean over chunks; None without chunks."""
    future_contrastive_loss: float | None
    """V2's InfoNCE of chunk-start states and later chunks, among the rows of a batch; batches weigh as their chunks."""
    states: tuple[PlanStateDiagnostics, ...]
    """[K]; empty in a model without plan states to tell apart."""


@torch.no_grad()
def planner_diagnostics(
    model: PlannerLM, batches: Iterable[TokenBatch], *, policy: PlanPolicy | None = None, top_tokens: int = 10
) -> PlannerDiagnostics:
    """All diagnostics in one pass over the batches; `top_tokens` are listed for each state.

    `policy` says how the belief is used (None: the model's own). They read every state's whole distribution three
    times, where an NLL needs the targets alone, and all pairs of states. Leaves the model in the mode it was in
    and draws no random number. Raises ValueError for no batch and ImpossibleObservationError where a target has
    probability zero.
    """
    policy = model.policy if policy is None else model.check_policy(policy)
    means, states = Means(), StateSums()
    carried = {name: CarriedPlan() for name in VARIANTS}
    with eval_mode(model):
        for found in read_batches(model, batches, policy=policy):
            means.add("nll", found.token_nll.sum(), len(found.token_nll))
            if model.num_plan_states > 1:
                measure_gates(model, found, policy, means)
                measure_beliefs(model, found, policy, means, carried)
                measure_filter(model, found, means, states)
                measure_chunks(model, found, means, states)
                measure_distributions(model, found, means, states)
    if means.count("nll") == 0:
        raise ValueError("evaluation needs at least one batch with a target")
    return _summary(model, means, states, top_tokens)


def _summary(model: PlannerLM, means: Means, states: StateSums, top_tokens: int) -> PlannerDiagnostics:
    targets, sums = means.count("nll"), states.totals
    matrix = sums["divergence"] / means.count("compared") if sums else None
    usage = sums["usage"] / sums["usage"].sum() if sums else None
    nll = means.mean("nll")
    assert nll is not None, "there are targets"
    return PlannerDiagnostics(
        targets=targets,
        nll=nll,
        planner_mask_delta_loss=means.delta("mask"),
        shuffled_belief_delta_loss=means.mean("shuffled"),
        frozen_delta_loss=means.delta("frozen"),
        boundary_reset_delta_loss=means.delta("reset"),
        evidence_off_delta_loss=means.delta("no_evidence"),
        feedback_delta_loss=means.delta("feedback"),
        forced_state_divergence=None if matrix is None else float(matrix[0, 1]),
        forced_state_matrix=None if matrix is None else tuple(tuple(row) for row in matrix.tolist()),
        plan_js_div_loss=None if matrix is None else float(mean_of_pairs(matrix)),
        plan_mi=means.mean("mi"),
        state_persistence=means.mean("persistence"),
        expert_utilization=None if usage is None else utilization(usage),
        usage_kl_to_uniform=None if usage is None else float(kl_to_uniform(_balanced(model, sums, usage, targets))),
        belief_entropy=means.mean("belief_entropy"),
        chunk_bow=means.mean("chunk_bow"),
        chunk_post_kl=means.mean("chunk_post_kl"),
        boundary_entropy=means.mean("boundary_entropy"),
        future_contrastive_loss=means.mean("contrast"),
        states=() if usage is None else _states(model, sums, usage, targets, top_tokens),
    )


def _balanced(model: PlannerLM, sums: dict[str, Tensor], usage: Tensor, targets: int) -> Tensor:
    """[K] the mean whose distance from uniform the version's own usage balance is about."""
    return sums["usage_after"] / targets if isinstance(model.planner, V1Planner) else usage


def _states(
    model: PlannerLM, sums: dict[str, Tensor], usage: Tensor, targets: int, top_tokens: int
) -> tuple[PlanStateDiagnostics, ...]:
    planner = model.planner
    rows = stationary = None
    if isinstance(planner, FilterPlanner):
        rows = to_filter_dtype(planner.log_transition()).exp().tolist()
        stationary = stationary_distribution(planner.log_transition(), planner.log_initial()).tolist()
    words = VocabularySums(sums["words"], sums["mixture"])
    return tuple(
        PlanStateDiagnostics(
            usage=float(usage[k]),
            forced_nll=float(sums["forced"][k]) / targets,
            tokens=raised_tokens(words, k, top_tokens),
            transition=tuple(rows[k]) if rows else None,
            stationary=stationary[k] if stationary else None,
        )
        for k in range(model.num_plan_states)
    )
