"""A batch as the model sees it, target by target and chunk by chunk: what loss terms and evaluations are means of."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.batches import TokenBatch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.chunks import ChunkRule
from apelr_model.emissions import mixtures
from apelr_model.losses import chunk_cross_entropy, symmetric_kl
from apelr_model.model_state import ModelState, Reading
from apelr_model.plan_state import PlanState
from apelr_model.planner_lm import PlannerLM
from apelr_model.planner_versions import V1Planner
from apelr_model.policy import PlanPolicy
from apelr_model.reading_checks import refuse_impossible, refuse_nan
from apelr_model.segments import Segments

__all__ = [
    "BatchStatistics",
    "ChunkStarts",
    "chunk_starts",
    "mixture_statistics",
    "read_batch",
    "read_batches",
    "recognizer_kl",
]


class BatchStatistics(NamedTuple):
    """Per-target quantities of one batch; N counts the unpadded targets of all rows in order."""

    batch: TokenBatch
    reading: Reading
    token_nll: Tensor
    """[N] nats."""
    hidden: Tensor
    """[N, D] the executor's state before each target."""
    state_log_probs: Tensor
    """[N, K] log-probability of each target under each plan state, nats."""
    log_belief: Tensor
    """[N, K] belief before each target."""
    log_gate: Tensor
    """[N, K] log-weights of the plan states in each target's prediction."""
    log_belief_after: Tensor
    """[N, K] belief after each target."""


def read_batch(
    model: PlannerLM, batch: TokenBatch, *, policy: PlanPolicy | None = None, plan: PlanState | None = None
) -> BatchStatistics:
    """Read a batch from its rows' starts; its plans go on from `plan` where one is given (`CarriedPlan`).

    Raises ImpossibleObservationError where a target has probability zero under every plan state, and NonFiniteError
    where a model in eval mode gives NaN; in training the loss names the term and the step.
    """
    valid = batch.valid
    padded = not bool(valid.all())
    reading = model.read(
        batch.inputs,
        batch.targets,
        state=None if plan is None else ModelState(None, plan),
        lengths=batch.lengths if padded else None,
        positions=batch.positions,
        policy=policy,
        keep_state=False,
    )
    if not model.training:
        refuse_nan(reading, valid)
    filtered = reading.filtered
    refuse_impossible(filtered.token_log_prob)

    def of_targets(values: Tensor) -> Tensor:
        """values [B, T, ...] -> [N, ...]; a view where there is no padding."""
        return values[valid.to(values.device)] if padded else values.flatten(0, 1)

    return BatchStatistics(
        batch,
        reading,
        -of_targets(filtered.token_log_prob),
        of_targets(reading.hidden),
        of_targets(reading.state_log_probs),
        of_targets(filtered.log_belief),
        of_targets(filtered.log_gate),
        of_targets(filtered.log_belief_after),
    )


def read_batches(
    model: PlannerLM, batches: Iterable[TokenBatch], *, policy: PlanPolicy | None = None
) -> Iterator[BatchStatistics]:
    """Each batch as `read_batch` gives it; the plans of rows that go on with those of the batch before do too."""
    carried = CarriedPlan()
    for batch in batches:
        here = batch.to(model.device)
        found = read_batch(model, here, policy=policy, plan=carried.before(model.planner, here))
        carried.keep_after(here, [found.reading.state.plan])
        yield found


class MixtureStatistics(NamedTuple):
    """What needs every word's probability."""

    plan_mi: Tensor
    """[N] mutual information of plan state and next token under the gate, nats."""
    chunk_bow: Tensor
    """[G] bag-of-words cross-entropy of each run of targets under the belief at its start, nats."""


def mixture_statistics(model: PlannerLM, found: BatchStatistics) -> MixtureStatistics:
    """Plan mutual information and bags of words, in slices of the vocabulary-wide distributions."""
    group = _runs(found)
    first = _first_of_group(group)
    mixed = mixtures(
        model.head,
        found.hidden,
        found.log_gate,
        found.log_belief[first[group].to(found.log_belief.device)],
        group,
        num_groups=len(first),
        vocab_size=model.vocab_size,
    )
    words = mixed.chunk_mixture
    targets = found.batch.targets[found.batch.valid]
    bow = chunk_cross_entropy(words, targets.to(words.device), group.to(words.device))
    return MixtureStatistics(mixed.mixture_entropy - mixed.state_entropy, bow)


def recognizer_kl(planner: V1Planner, found: BatchStatistics) -> Tensor:
    """Symmetric KL [G] of V1's recognizer and the filtered belief after each run's last target, nats."""
    group = _runs(found)
    first = _first_of_group(group)
    sizes = torch.bincount(group)
    sums = found.hidden.new_zeros(len(first), found.hidden.shape[1]).index_add(0, group, found.hidden)
    log_guess = planner.recognize(sums / sizes.unsqueeze(1))
    log_end = found.log_belief_after[(first + sizes - 1).to(found.log_belief_after.device)]
    return symmetric_kl(log_guess.to(log_end), log_end)


class ChunkStarts(NamedTuple):
    """The chunks of inputs of a batch, one document a row (D documents, C chunks in the longest)."""

    log_belief: Tensor
    """[D, C, K] belief at each chunk's start, boundary crossed; the one carried where a row goes on."""
    state: Tensor
    """[D, C, K] probabilities that the chunk was filtered from: the belief, or what training committed to."""
    summary: Tensor
    """[D, C, width] mean of the executor's states over the chunk's inputs, as many as the row has."""
    valid: Tensor
    """[D, C] bool: the chunk has an unpadded input, and its first one is in the row (a row that goes on may begin with
    the rest of a chunk)."""


def chunk_starts(model: PlannerLM, found: BatchStatistics) -> ChunkStarts:
    """Chunk c of a document is its inputs cL ... cL + L - 1; it starts with the belief of the plan in force there."""
    size = model.chunks.chunk_size
    inputs = ChunkRule(chunk_size=size).segments(found.reading.positions)
    valid = found.batch.valid
    rows = len(valid)
    hidden = found.reading.hidden.masked_fill(~valid.unsqueeze(-1), 0.0)
    counts = inputs.totals(valid.unsqueeze(-1).to(hidden))
    summary = inputs.totals(hidden) / counts.clamp(min=1)
    run = found.reading.segments.number.gather(1, inputs.first.clamp(max=valid.shape[1] - 1))
    run = run - int(size == model.chunks.offset)  # V2's chunks of one: the target after an input is in the next chunk
    filtered = found.reading.filtered
    chosen = run.expand(rows, -1).to(filtered.start.device).unsqueeze(-1).expand(-1, -1, filtered.start.shape[-1])
    log_belief, state = filtered.log_start.gather(1, chosen), filtered.start.gather(1, chosen)
    return _by_document(ChunkStarts(log_belief, state, summary, (counts.squeeze(-1) > 0) & inputs.begins), inputs)


def _by_document(starts: ChunkStarts, inputs: Segments) -> ChunkStarts:
    """Rows of several documents cut into rows of one."""
    if not bool(inputs.restarts[:, 1:].any()):
        return starts
    rows = len(starts.valid)
    document = inputs.restarts.expand(rows, -1).long().cumsum(1)
    document = document - document[:, :1] + torch.arange(rows, device=document.device).unsqueeze(1) * inputs.runs
    number = _numbered(document.flatten())
    column = torch.arange(len(number), device=number.device) - _first_of_group(number)[number]
    shape = (int(number[-1]) + 1, int(column.max()) + 1)

    def regrouped(values: Tensor) -> Tensor:
        where = (number.to(values.device), column.to(values.device))
        return values.new_zeros(*shape, *values.shape[2:]).index_put(where, values.flatten(0, 1))

    return ChunkStarts(*(regrouped(values) for values in starts))


def _runs(found: BatchStatistics) -> Tensor:
    """[N] the unpadded targets' runs, numbered 0, 1, ... through the batch."""
    valid = found.batch.valid
    number = found.reading.segments.number.to(valid.device).expand(len(valid), -1)
    row = torch.arange(len(valid), device=valid.device).unsqueeze(1)
    key = (row * found.reading.segments.runs + number)[valid]
    return _numbered(key)


def _first_of_group(group: Tensor) -> Tensor:
    """group [N] (0, 0, 1, ...) -> [G] the index at which each group starts."""
    sizes = torch.bincount(group)
    return sizes.cumsum(0) - sizes


def _numbered(key: Tensor) -> Tensor:
    """key [N], equal ones side by side -> [N] 0, 1, ... in order."""
    return torch.cat([key.new_zeros(1), (key[1:] != key[:-1]).long().cumsum(0)])
