"""From a batch to its loss: the NLL and every other term, and their weighted sum in one place."""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.batch_statistics import (
    BatchStatistics,
    ChunkStarts,
    chunk_starts,
    mixture_statistics,
    read_batch,
    recognizer_kl,
)
from apelr_model.batches import TokenBatch
from apelr_model.chunks import ChunkRule
from apelr_model.config import V2Config
from apelr_model.errors import NonFiniteError
from apelr_model.losses import belief_entropy, kl_to_uniform
from apelr_model.plan_divergence import plan_js_div
from apelr_model.plan_state import PlanState
from apelr_model.planner_lm import PlannerLM
from apelr_model.planner_versions import V1Planner, V2Planner
from apelr_model.repetition import recent_tokens, rep_unlikelihood
from apelr_model.training_config import LossWeights, V1LossWeights, V2LossWeights

__all__ = ["TERM_NAMES", "LossTerms", "StepTotals", "loss_terms", "step_totals", "total_loss"]


class LossTerms(NamedTuple):
    """Scalars in nats; None where a term was not asked for. Formulas and signs: docs/math.md."""

    nll: Tensor
    """Negative log-likelihood, mean over targets."""
    usage: Tensor
    """[K] mean belief after each target (probabilities, without gradient); reported, no part of the total."""
    belief_entropy: Tensor | None = None
    """V1: entropy of the belief after each target, mean over targets."""
    usage_kl: Tensor | None = None
    """V1: KL(mean belief after the target || uniform), of this (micro-)batch."""
    chunk_bow: Tensor | None = None
    """V1: bag-of-words cross-entropy of a chunk under the plan known at its start, mean over chunks."""
    plan_mi: Tensor | None = None
    """V1: mutual information of plan and next token under the belief before it, mean over targets."""
    chunk_post_kl: Tensor | None = None
    """V1: symmetric KL of recognizer and belief after the chunk's last target, mean over chunks."""
    usage_balance: Tensor | None = None
    """V2: KL(mean state at chunk starts || uniform), of this (micro-)batch."""
    boundary_entropy: Tensor | None = None
    """V2: entropy of the beliefs at chunk starts, mean over chunks."""
    future_contrastive: Tensor | None = None
    """V2: InfoNCE of chunk-start states and later chunks, of this (micro-)batch."""
    plan_js_div: Tensor | None = None
    """V2: mean Jensen-Shannon divergence of two experts, mean over targets."""
    rep_unlikelihood: Tensor | None = None
    """V2: unlikelihood of recent tokens, mean over targets that have one."""
    scores: Tensor | None = None
    """[K, K] mean over targets of the belief in state i after one times its log-probability under state j, nats
    (without gradient); where asked for, no part of the total."""
    plan: PlanState | None = None
    """Where the rows' plans stand at their ends; no part of the total."""


TERM_NAMES = tuple(name for name in LossTerms._fields if name not in ("usage", "scores", "plan"))


class StepTotals(NamedTuple):
    """What means divide by: counts over a whole optimizer step, so that micro-batches add up to its mean."""

    targets: int
    chunks: int
    """V1: runs of targets; V2: chunks of inputs."""
    repeatable: int
    """Targets with a recent token other than themselves; 0 where the unlikelihood has no weight."""
    micro_batches: int = 1
    """Parts of the step: terms that do not add up over them are averaged."""


def step_totals(model: PlannerLM, batch: TokenBatch, weights: LossWeights, *, micro_batches: int = 1) -> StepTotals:
    """The counts of a whole step, from its ids alone."""
    rule = ChunkRule(chunk_size=model.chunks.chunk_size) if isinstance(model.config, V2Config) else model.chunks
    valid = batch.valid
    runs = rule.segments(batch.clock).totals(valid.unsqueeze(-1).long())
    repeatable = 0
    if isinstance(weights, V2LossWeights) and weights.rep_unlikelihood != 0:
        recent = recent_tokens(batch.inputs, batch.targets, weights.rep_window, positions=batch.positions)
        repeatable = int((recent.keep.any(-1) & valid).sum())
    return StepTotals(int(batch.lengths.sum()), int((runs > 0).sum()), repeatable, micro_batches)


def loss_terms(
    model: PlannerLM,
    batch: TokenBatch,
    weights: LossWeights,
    *,
    totals: StepTotals | None = None,
    plan: PlanState | None = None,
    with_scores: bool = False,
) -> LossTerms:
    """The NLL and every term with a weight, of one (micro-)batch; its plans go on from `plan` where one is given.

    Means over targets and chunks divide by the totals of the whole optimizer step (default: this batch's own), so
    that micro-batches add up to the full batch. `usage_kl`, `usage_balance` and `future_contrastive` are functions
    of the batch as a whole and have no such decomposition: each is this micro-batch's value divided by the number of
    micro-batches. `with_scores` gives `LossTerms.scores`, too. Raises ImpossibleObservationError where a target has
    probability zero, and ValueError where the weights are another version's.
    """
    found = read_batch(model, batch, plan=plan)
    totals = step_totals(model, batch, weights) if totals is None else totals
    belief = found.log_belief_after.detach().exp()
    terms = LossTerms(
        nll=found.token_nll.sum() / totals.targets,
        usage=belief.sum(0) / totals.targets,
        scores=belief.T @ found.state_log_probs.detach().to(belief.dtype) / totals.targets if with_scores else None,
        plan=found.reading.state.plan,
    )
    if isinstance(weights, V1LossWeights):
        return _v1_terms(model, found, weights, totals, terms)
    if isinstance(weights, V2LossWeights):
        return _v2_terms(model, found, weights, totals, terms)
    return terms


def _v1_terms(
    model: PlannerLM, found: BatchStatistics, weights: V1LossWeights, totals: StepTotals, terms: LossTerms
) -> LossTerms:
    planner = model.planner
    if not isinstance(planner, V1Planner):
        raise ValueError(f"loss weights of v1_filtered_mixture do not fit a {model.config.version}")
    if weights.plan_mi_weight != 0 or weights.chunk_bow_weight != 0:
        mixed = mixture_statistics(model, found)
        terms = terms._replace(
            plan_mi=mixed.plan_mi.sum() / totals.targets, chunk_bow=mixed.chunk_bow.sum() / totals.chunks
        )
    if weights.chunk_post_kl_weight != 0:
        terms = terms._replace(chunk_post_kl=recognizer_kl(planner, found).sum() / totals.chunks)
    if weights.entropy_reg_weight != 0:
        terms = terms._replace(belief_entropy=belief_entropy(found.log_belief_after).sum() / totals.targets)
    if weights.usage_balance_weight != 0:
        usage = kl_to_uniform(found.log_belief_after.exp().mean(0))
        terms = terms._replace(usage_kl=usage / totals.micro_batches)
    return terms


def _v2_terms(
    model: PlannerLM, found: BatchStatistics, weights: V2LossWeights, totals: StepTotals, terms: LossTerms
) -> LossTerms:
    planner = model.planner
    if not isinstance(planner, V2Planner):
        raise ValueError(f"loss weights of v2_planner_required do not fit a {model.config.version}")
    if any((weights.usage_balance, weights.boundary_entropy, weights.future_contrastive)):
        starts = chunk_starts(model, found)
        terms = _chunk_start_terms(planner, starts, weights, totals, terms)
    if weights.plan_js_div != 0:
        terms = terms._replace(plan_js_div=plan_js_div(model.head, found.hidden).sum() / totals.targets)
    if weights.rep_unlikelihood != 0:
        batch = found.batch
        recent = recent_tokens(batch.inputs, batch.targets, weights.rep_window, positions=batch.positions)
        ids, keep = recent.ids[batch.valid], recent.keep[batch.valid]
        repeated = rep_unlikelihood(model.head, found.hidden, found.log_gate, ids, keep)
        terms = terms._replace(rep_unlikelihood=repeated.sum() / max(1, totals.repeatable))
    return terms


def _chunk_start_terms(
    planner: V2Planner,
    starts: ChunkStarts,
    weights: V2LossWeights,
    totals: StepTotals,
    terms: LossTerms,
) -> LossTerms:
    valid = starts.valid.to(starts.state.device)
    if weights.usage_balance != 0:
        usage = kl_to_uniform(starts.state[valid].mean(0))
        terms = terms._replace(usage_balance=usage / totals.micro_batches)
    if weights.boundary_entropy != 0:
        terms = terms._replace(boundary_entropy=belief_entropy(starts.log_belief[valid]).sum() / totals.chunks)
    if weights.future_contrastive != 0:
        contrast = planner.future_contrast(starts.state, starts.summary, starts.valid)
        terms = terms._replace(future_contrastive=contrast / totals.micro_batches)
    return terms


def total_loss(terms: LossTerms, weights: LossWeights, step: int) -> Tensor:
    """NLL plus every term times its signed weight at `step` (docs/math.md).

    Raises NonFiniteError where it is NaN or infinite, naming the step and the first term that is.
    """
    total = terms.nll.new_zeros(())
    weighed = []
    for name, weight in {"nll": 1.0, **weights.signed(step)}.items():
        term = getattr(terms, name)
        if term is not None:
            weighed.append((name, term))
            total = total + weight * term
    if not bool(torch.isfinite(total)):  # one look at the device, not one a term
        for name, term in weighed:
            if not bool(torch.isfinite(term)):
                raise NonFiniteError(f"loss term {name} is {term.item()} at step {step}; no parameter was changed")
        raise NonFiniteError(f"the loss is {total.item()} at step {step}; no parameter was changed")
    return total
