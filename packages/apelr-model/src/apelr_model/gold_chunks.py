"""A labelled text as the plan sees it: what a model takes each chunk's plan for, and what it is."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from apelr_model.batch_statistics import BatchStatistics, read_batches
from apelr_model.batches import TokenBatch
from apelr_model.belief import to_filter_dtype
from apelr_model.chunks import ChunkRule
from apelr_model.planner import FilterPlanner, observed_targets
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.posterior import smooth_plans
from apelr_model.scoring import eval_mode
from apelr_model.segments import Segments
from apelr_model.trellis import PlanTrellis, plan_trellis

__all__ = ["GoldChunks", "LabelledBatch", "chunk_labels", "read_gold_chunks", "trellis_of_batch"]


class LabelledBatch(NamedTuple):
    """Rows of token ids whose true plan is known."""

    batch: TokenBatch
    labels: Tensor
    """[B, T] integers: the plan that each target was written under, from 0 on; -1 where there is none."""


class GoldChunks(NamedTuple):
    """The chunks of N rows, S in the longest, on the CPU; a chunk is a run of targets that share one plan state.

    Where a row has no (or no more) chunk, beliefs are minus infinity.
    """

    log_filtered: Tensor
    """[N, S, K] log belief after the chunk's last target: what the model knows without reading on; float64."""
    log_smoothed: Tensor
    """[N, S, K] log p(plan of the chunk | its document as far as the row holds it); float64."""
    labels: Tensor
    """[N, S] the gold plan of the chunk (`chunk_labels`); -1 where there is none."""
    document: Tensor
    """[N, S] the number of the document's first chunk in the row; -1 where there is no chunk."""
    compared: Tensor
    """[N, S] bool: the chunk has a label, and its last target is in the row (or it is the row's only chunk): of a chunk
    that the row's end cuts off too little is known to ask which plan it has."""
    log_transition: Tensor
    """[K, K] log P of the model; float64."""
    log_initial: Tensor
    """[K] log pi of the model; float64."""

    @property
    def num_labels(self) -> int:
        """G: labels are numbered below this; 0 without chunks."""
        return int(self.labels.max()) + 1 if self.labels.numel() else 0

    def rows(self, start: int, stop: int) -> "GoldChunks":
        """The chunks of some of the rows."""
        return self._of(slice(start, stop))

    def sorted_by(self, numbers: Sequence[int]) -> "GoldChunks":
        """The rows, which have these numbers [N], in the order of the numbers: batches need not follow the text."""
        return self._of(torch.tensor(numbers).argsort())

    def _of(self, rows: slice | Tensor) -> "GoldChunks":
        return self._replace(
            log_filtered=self.log_filtered[rows],
            log_smoothed=self.log_smoothed[rows],
            labels=self.labels[rows],
            document=self.document[rows],
            compared=self.compared[rows],
        )


@torch.no_grad()
def read_gold_chunks(
    model: PlannerLM, batches: Iterable[LabelledBatch], *, policy: PlanPolicy | None = None
) -> GoldChunks:
    """Read labelled batches once, and keep of them what `plan_recovery` and `lookahead_skill` compare.

    `policy` says how the belief is used (None: the model's own); where it freezes the belief, all that follows is one
    chunk. Where rows go on from the batch before, so do their beliefs; smoothing looks no further than the row's end.
    Leaves the model in the mode it was in and draws no random number. Raises ValueError for a model without a
    chain of plans, labels of another shape, and a text in which no chunk has a label; ImpossibleObservationError where
    a target has probability zero.
    """
    planner = model.planner
    if not isinstance(planner, FilterPlanner):
        raise ValueError(f"{model.config.version} has no chain of plans to compare with known ones")
    policy = model.policy if policy is None else model.check_policy(policy)
    labels_of: list[Tensor] = []
    found: list[tuple[Tensor, ...]] = []

    def texts() -> Iterator[TokenBatch]:
        for batch, labels in batches:
            labels_of.append(labels)
            yield batch

    with eval_mode(model):
        for statistics in read_batches(model, texts(), policy=policy):
            trellis = trellis_of_batch(planner, statistics, policy)
            found.append(_chunks_of_batch(statistics, trellis, labels_of.pop(), model.chunks))
    if not any(bool(compared.any()) for *_, compared in found):
        raise ValueError("no chunk of the text has a known plan to compare with")
    filtered, smoothed, labels, document, compared = (_stacked(parts) for parts in zip(*found, strict=True))
    transition, initial = (to_filter_dtype(table).cpu() for table in (planner.log_transition(), planner.log_initial()))
    return GoldChunks(filtered, smoothed, labels, document, compared, transition, initial)


def trellis_of_batch(planner: FilterPlanner, found: BatchStatistics, policy: PlanPolicy) -> PlanTrellis:
    """The forward pass over the chunks of a batch that has been read, from the belief that each row began with."""
    reading = found.reading
    return plan_trellis(
        reading.state_log_probs,
        reading.log_initial,
        planner.log_transition(),
        reading.segments,
        evidence=reading.evidence,
        mask=found.batch.valid,
        observed=observed_targets(reading.positions, policy, len(found.batch.lengths)),
        log_restart=planner.log_initial(),
    )


def chunk_labels(labels: Tensor, segments: Segments) -> Tensor:
    """labels [B, T] of targets (-1: none) -> [B, S]: the label that most labelled targets of each run have.

    The smallest of those that are equally frequent; -1 for a run without a labelled target.
    """
    kinds = torch.arange(max(1, int(labels.max()) + 1), device=labels.device)
    counts = segments.totals((labels.unsqueeze(-1) == kinds).double())
    return counts.argmax(-1).masked_fill(counts.sum(-1) == 0, -1)


def _chunks_of_batch(
    found: BatchStatistics, trellis: PlanTrellis, labels: Tensor, chunks: ChunkRule
) -> tuple[Tensor, ...]:
    """labels [B, T] -> the first five fields of `GoldChunks`, of one batch."""
    valid = found.batch.valid.cpu()
    if labels.shape != valid.shape or labels.is_floating_point() or bool((labels < -1).any()):
        raise ValueError(f"labels must be {list(valid.shape)} whole numbers, -1 for none, got {list(labels.shape)}")
    segments = trellis.segments.to(valid.device)
    known = labels.cpu().long().masked_fill(~valid, -1)
    present = segments.totals(valid.double().unsqueeze(-1)).squeeze(-1) > 0
    index = torch.arange(segments.runs)
    document = torch.where(segments.restarts, index, 0).cummax(1).values.expand(len(valid), -1)
    by_chunk = chunk_labels(known, segments)
    absent = ~present.unsqueeze(-1)
    return (
        trellis.log_after.cpu().masked_fill(absent, -torch.inf),
        smooth_plans(trellis).log_posterior.cpu().masked_fill(absent, -torch.inf),
        by_chunk,
        document.masked_fill(~present, -1),
        (by_chunk >= 0) & ~_cut_off(found, present, segments, chunks),
    )


def _cut_off(found: BatchStatistics, present: Tensor, segments: Segments, chunks: ChunkRule) -> Tensor:
    """present [B, S] -> bool [B, S]: the row ends within the chunk, which is not its only one."""
    rows = torch.arange(len(present))
    ends = found.batch.lengths.cpu() - 1
    position = found.reading.positions.cpu().expand(len(rows), -1)[rows, ends]
    within = (chunks.chunks(position + 1) == chunks.chunks(position)) & (present.sum(1) > 1)
    last = segments.number.expand(len(rows), -1)[rows, ends]
    return within.unsqueeze(1) & (torch.arange(segments.runs) == last.unsqueeze(1))


def _stacked(parts: tuple[Tensor, ...]) -> Tensor:
    """Batches [B, S, ...] of several widths S -> one [N, S, ...], filled up with -1, False or minus infinity."""
    longest = max(part.shape[1] for part in parts)
    filler = -torch.inf if parts[0].is_floating_point() else 0 if parts[0].dtype == torch.bool else -1
    around = (0, 0) * (parts[0].ndim - 2)
    return torch.cat([pad(part, (*around, 0, longest - part.shape[1]), value=filler) for part in parts])
