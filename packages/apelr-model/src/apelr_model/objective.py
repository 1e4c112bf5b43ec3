"""From a batch to its loss: the NLL and every other term, and their weighted sum in one place."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.config import V1LossWeights
from apelr_model.emissions import mixtures
from apelr_model.errors import ImpossibleObservationError, NonFiniteError
from apelr_model.losses import belief_entropy, chunk_cross_entropy, kl_to_uniform, symmetric_kl
from apelr_model.planner_lm import PlannerLM, Reading

__all__ = ["BatchStatistics", "LossTerms", "TokenBatch", "batch_statistics", "loss_terms", "total_loss"]


class TokenBatch(NamedTuple):
    """Rows of token ids, right-padded."""

    inputs: Tensor
    """[B, T] integers."""
    targets: Tensor
    """[B, T] integers: `inputs` one step on."""
    lengths: Tensor
    """[B] number of unpadded targets of each row, at least 1."""

    def split(self, parts: int) -> Iterator["TokenBatch"]:
        """The batch in `parts` runs of rows, as equal as they can be; ValueError with fewer rows than parts."""
        if parts > len(self.lengths):
            raise ValueError(f"cannot split {len(self.lengths)} rows into {parts} parts")
        for piece in zip(*(tensor.tensor_split(parts) for tensor in self), strict=True):
            yield TokenBatch(*piece)

    def to(self, device: torch.device) -> "TokenBatch":
        """The batch on `device`."""
        return TokenBatch(*(tensor.to(device) for tensor in self))


class LossTerms(NamedTuple):
    """Scalars in nats; None where a term was not asked for. Signs in the total: `total_loss`."""

    nll: Tensor
    """Negative log-likelihood, mean over targets."""
    usage: Tensor
    """[K] mean belief after each target (probabilities, without gradient); reported, no part of the total."""
    belief_entropy: Tensor | None = None
    """Entropy of the belief after each target, mean over targets."""
    usage_kl: Tensor | None = None
    """KL(mean belief after the target || uniform), of this (micro-)batch."""
    chunk_bow: Tensor | None = None
    """Bag-of-words cross-entropy of a chunk under the plan known at its start, mean over chunks."""
    plan_mi: Tensor | None = None
    """Mutual information of plan and next token under the belief before it, mean over targets."""
    chunk_post_kl: Tensor | None = None
    """Symmetric KL of recognizer and belief after the chunk's last target, mean over chunks."""


TERM_NAMES = tuple(name for name in LossTerms._fields if name != "usage")


class BatchStatistics(NamedTuple):
    """Per-target and per-chunk quantities of one batch, unreduced; the terms are their means."""

    reading: Reading
    token_nll: Tensor
    """[N] nats, the unpadded targets of all rows in order."""
    log_belief_after: Tensor
    """[N, K]."""
    plan_mi: Tensor | None
    """[N] nats."""
    chunk_bow: Tensor | None
    """[G] nats, one for each chunk that holds an unpadded target."""
    chunk_post_kl: Tensor | None
    """[G] nats."""


def count_chunks(model: PlannerLM, batch: TokenBatch) -> int:
    """How many chunks of the batch's rows (each from its start) hold an unpadded target."""
    return sum(len(set(model.chunks.index(0, int(length)))) for length in batch.lengths)


def batch_statistics(
    model: PlannerLM, batch: TokenBatch, *, with_mixtures: bool, with_recognizer: bool
) -> BatchStatistics:
    """Read a batch from its rows' starts; `with_mixtures` adds plan MI and bag of words, `with_recognizer` its KL.

    Raises ImpossibleObservationError where a target has probability zero under every plan state.
    """
    inputs, targets, lengths = batch
    padded = bool((lengths < inputs.shape[1]).any())
    reading = model.read(inputs, targets, lengths=lengths if padded else None)
    valid = torch.arange(inputs.shape[1], device=inputs.device) < lengths.unsqueeze(1)
    on_filter = valid.to(reading.filtered.log_belief.device)
    token_nll = -reading.filtered.token_log_prob[on_filter]
    if bool(torch.isposinf(token_nll).any()):
        raise ImpossibleObservationError(_impossible_message(reading))
    log_after = reading.filtered.log_belief_after[on_filter]

    group = _number_chunks(reading.chunk_index, valid)
    hidden = reading.hidden[valid]
    plan_mi = chunk_bow = chunk_post_kl = None
    if with_mixtures:
        first = _first_of_group(group)
        log_before = reading.filtered.log_belief[on_filter]
        found = mixtures(
            model.head,
            hidden,
            log_before,
            log_before[first[group].to(log_before.device)],
            group,
            num_groups=len(first),
            vocab_size=model.vocab_size,
        )
        plan_mi = found.mixture_entropy - found.state_entropy
        words = found.chunk_mixture
        chunk_bow = chunk_cross_entropy(words, targets[valid].to(words.device), group.to(words.device))
    if with_recognizer:
        first = _first_of_group(group)
        sizes = torch.bincount(group)
        sums = hidden.new_zeros(len(first), hidden.shape[1]).index_add(0, group, hidden)
        log_guess = model.planner.recognize(sums / sizes.unsqueeze(1))
        log_end = log_after[(first + sizes - 1).to(log_after.device)]
        chunk_post_kl = symmetric_kl(log_guess.to(log_end), log_end)
    return BatchStatistics(reading, token_nll, log_after, plan_mi, chunk_bow, chunk_post_kl)


def _number_chunks(chunk_index: list[int], valid: Tensor) -> Tensor:
    """chunk_index [T], valid [B, T] -> [N] the unpadded targets' chunks, numbered 0, 1, ... through the batch."""
    chunk = torch.tensor(chunk_index, device=valid.device)
    row = torch.arange(len(valid), device=valid.device).unsqueeze(1)
    key = (row * (chunk[-1] + 1) + chunk)[valid]
    return torch.cat([key.new_zeros(1), (key[1:] != key[:-1]).cumsum(0)])


def _first_of_group(group: Tensor) -> Tensor:
    """group [N] (0, 0, 1, ...) -> [G] the index at which each group starts."""
    sizes = torch.bincount(group)
    return sizes.cumsum(0) - sizes


def _impossible_message(reading: Reading) -> str:
    row, position = (int(i) for i in (reading.filtered.token_log_prob == -torch.inf).nonzero()[0])
    return f"target {position} of row {row} has probability zero under every plan state: its NLL is infinite"


def loss_terms(
    model: PlannerLM,
    batch: TokenBatch,
    weights: V1LossWeights,
    *,
    total_targets: int | None = None,
    total_chunks: int | None = None,
    micro_batches: int = 1,
) -> LossTerms:
    """The NLL and every term with a weight, of one (micro-)batch.

    Means over targets and chunks divide by the totals of the whole optimizer step (default: this batch's own),
    so that micro-batches add up to the full batch. `usage_kl` is a function of the batch mean and has no such
    decomposition: it is this micro-batch's value divided by the number of micro-batches.
    """
    want_mixtures = weights.plan_mi_weight != 0 or weights.chunk_bow_weight != 0
    found = batch_statistics(
        model, batch, with_mixtures=want_mixtures, with_recognizer=weights.chunk_post_kl_weight != 0
    )
    targets = len(found.token_nll) if total_targets is None else total_targets
    chunks = count_chunks(model, batch) if total_chunks is None else total_chunks
    entropy = usage = None
    if weights.entropy_reg_weight != 0:
        entropy = belief_entropy(found.log_belief_after).sum() / targets
    if weights.usage_balance_weight != 0:
        usage = kl_to_uniform(found.log_belief_after.exp().mean(0)) / micro_batches
    return LossTerms(
        nll=found.token_nll.sum() / targets,
        usage=found.log_belief_after.detach().exp().sum(0) / targets,
        belief_entropy=entropy,
        usage_kl=usage,
        chunk_bow=None if found.chunk_bow is None else found.chunk_bow.sum() / chunks,
        plan_mi=None if found.plan_mi is None else found.plan_mi.sum() / targets,
        chunk_post_kl=None if found.chunk_post_kl is None else found.chunk_post_kl.sum() / chunks,
    )


def total_loss(terms: LossTerms, weights: V1LossWeights, step: int) -> Tensor:
    """NLL + entropy + usage + bag of words - plan MI + recognizer KL, each times its weight at `step`.

    Raises NonFiniteError, naming the step and the first term that is NaN or infinite.
    """
    total = terms.nll.new_zeros(())
    signed = {
        "nll": 1.0,
        "belief_entropy": weights.entropy_reg_weight,
        "usage_kl": weights.usage_balance_weight,
        "chunk_bow": weights.chunk_bow_at(step),
        "plan_mi": -weights.plan_mi_weight,
        "chunk_post_kl": weights.chunk_post_kl_weight,
    }
    for name, weight in signed.items():
        term = getattr(terms, name)
        if term is None:
            continue
        if not bool(torch.isfinite(term)):
            raise NonFiniteError(f"loss term {name} is {term.item()} at step {step}; no parameter was changed")
        total = total + weight * term
    return total
