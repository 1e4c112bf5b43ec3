"""Scoring many continuations of many contexts at once: what multiple choice, cloze and perplexity tasks ask for."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from apelr_model.batches import SEGMENT
from apelr_model.belief import log_mean_state
from apelr_model.emissions import state_log_probs
from apelr_model.model_state import ModelState, Reading
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.reading_checks import refuse_nan
from apelr_model.slices import in_slices

__all__ = ["Continuation", "ContinuationScore", "score_continuations"]

Row = tuple[int, ...]
Item = TypeVar("Item")


class Continuation(NamedTuple):
    """What is asked for."""

    context: Sequence[int]
    """Ids that are read first; at least one (BOS)."""
    ids: Sequence[int]
    """Ids that follow, whose probability is wanted; may be none."""


class ContinuationScore(NamedTuple):
    """What the model thinks of a continuation."""

    number: int
    """Its place among those asked for, from 0."""
    log_prob: float
    """log p(ids | context), nats; minus infinity where the model excludes an id, of the context or the continuation."""
    is_greedy: bool
    """Whether each id is the most likely one (the lowest of equals) after what stands before it."""


def score_continuations(
    model: PlannerLM,
    asked: Sequence[Continuation],
    *,
    batch_size: int = 16,
    find_greedy: bool = True,
    policy: PlanPolicy | None = None,
) -> Iterator[ContinuationScore]:
    """The score of every continuation, in an order of convenience; at most `batch_size` rows are read at once.

    Equal contexts are read once, and their state serves all their continuations. Nothing is cut off: a text that is
    longer than what is read at once is read in segments, with state and belief carried on. What a score is does not
    depend on the batch. Without `find_greedy` no time is spent on `is_greedy`, which is then False. `policy` says how
    the belief is used (None: the model's own). Sets the model to eval mode. Raises ValueError for an empty context,
    an id outside the vocabulary, a batch size below 1, or a policy that the model does not have; NonFiniteError where
    the model gives NaN.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    policy = model.policy if policy is None else model.check_policy(policy)
    for index, (context, ids) in enumerate(asked):
        if not len(context):
            raise ValueError(f"a context needs at least one id, got none in number {index}")
        wrong = next((i for row in (context, ids) for i in row if not 0 <= i < model.vocab_size), None)
        if wrong is not None:
            raise ValueError(f"ids must be between 0 and {model.vocab_size - 1}, got {wrong} in number {index}")
    return _score(model, asked, batch_size, find_greedy, policy)


@torch.no_grad()
def _score(
    model: PlannerLM, asked: Sequence[Continuation], batch_size: int, find_greedy: bool, policy: PlanPolicy
) -> Iterator[ContinuationScore]:
    model.eval()
    by_context: dict[Row, list[int]] = {}
    for index, continuation in enumerate(asked):
        by_context.setdefault(tuple(continuation.context), []).append(index)
    for contexts in _batches(sorted(by_context, key=len, reverse=True), batch_size):
        state = _read_contexts(model, contexts, policy)
        wanted = [(row, index) for row, context in enumerate(contexts) for index in by_context[context]]
        wanted.sort(key=lambda each: len(asked[each[1]].ids), reverse=True)
        for part in _batches(wanted, batch_size):
            rows = torch.tensor([row for row, _ in part], device=model.device)
            texts = [(*contexts[row][-1:], *asked[index].ids) for row, index in part]
            log_probs, greedy = _read_rows(model, texts, model.select_rows(state, rows), find_greedy, policy)
            for (_, index), log_prob, is_greedy in zip(part, log_probs, greedy, strict=True):
                yield ContinuationScore(index, log_prob, is_greedy)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _read_contexts(model: PlannerLM, contexts: Sequence[Row], policy: PlanPolicy) -> ModelState:
    """The state of each context after all of its ids but the last have been read, and all been observed."""
    state = model.initial_state(len(contexts))
    ids, lengths = _padded(contexts, model.device)
    for part in _segments(int(lengths.max())):
        state = _read(model, ids, lengths, part, state, policy).state
    return state


def _read_rows(
    model: PlannerLM, texts: Sequence[Row], state: ModelState, find_greedy: bool, policy: PlanPolicy
) -> tuple[list[float], list[bool]]:
    """texts, longest first, of one id to read and those to score; rows that have ended are no longer computed."""
    ids, lengths = _padded(texts, model.device)
    impossible = (state.log_belief == -math.inf).all(-1)
    totals = torch.zeros(len(texts), dtype=torch.float64, device=state.log_belief.device)
    totals[impossible] = -math.inf
    greedy = torch.full((len(texts),), find_greedy, device=model.device)
    rows = len(texts)
    for part in _segments(int(lengths.max())):
        going = int((lengths > part.start).sum())
        if going < rows:
            rows = going
            state = model.select_rows(state, torch.arange(rows, device=model.device))
        reading = _read(model, ids[:rows], lengths[:rows], part, state, policy)
        state = reading.state
        found = reading.filtered.token_log_prob.double()
        excluded = (found == -math.inf).any(1)
        totals[:rows] += found.sum(1).masked_fill(excluded, -math.inf)
        if find_greedy:
            greedy[:rows] &= _all_greedy(model, reading, ids[:rows], lengths[:rows], part)
    return totals.tolist(), greedy.tolist()


def _segments(length: int) -> Iterator[slice]:
    for start in range(0, length, SEGMENT):
        yield slice(start, min(start + SEGMENT, length))


def _padded(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """rows of ids -> ids [B, T + 1], right-padded with 0, and the number of targets [B] in each."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = torch.tensor(values)
    return ids.to(device), torch.tensor([len(values) - 1 for values in rows], device=device)


def _read(
    model: PlannerLM, ids: Tensor, lengths: Tensor, part: slice, state: ModelState, policy: PlanPolicy
) -> Reading:
    """Read the targets `part` of ids [B, T + 1], of which each row has `lengths` [B]."""
    counts = _inside(lengths, part)
    ragged = None if bool((counts == part.stop - part.start).all()) else counts
    targets = ids[:, part.start + 1 : part.stop + 1]
    reading = model.read(ids[:, part], targets, state=state, lengths=ragged, policy=policy)
    refuse_nan(reading, torch.arange(targets.shape[1], device=ids.device) < counts.unsqueeze(1))
    return reading


def _inside(lengths: Tensor, part: slice) -> Tensor:
    """lengths [B] -> targets of each row that lie in `part` [B]."""
    return torch.clamp(lengths - part.start, 0, part.stop - part.start)


def _all_greedy(model: PlannerLM, reading: Reading, ids: Tensor, lengths: Tensor, part: slice) -> Tensor:
    """Whether each row's targets in `part` are all the most likely ones [B], found a slice of tokens at a time."""

    def most_likely(hidden: Tensor, log_gate: Tensor) -> Tensor:
        return log_mean_state(log_gate, state_log_probs(model.head, hidden)).argmax(-1)

    targets = ids[:, part.start + 1 : part.stop + 1]
    valid = torch.arange(targets.shape[1], device=ids.device) < _inside(lengths, part).unsqueeze(1)
    log_gate = reading.filtered.log_gate
    best = in_slices(
        most_likely, model.head.logits_per_token, reading.hidden[valid], log_gate[valid.to(log_gate.device)]
    )
    missed = torch.zeros_like(valid)
    missed[valid] = best.to(ids.device) != targets[valid]
    return ~missed.any(1)
