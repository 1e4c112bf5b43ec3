"""Scoring and evaluation: what the model thinks of a given text, by the same recursion as training."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.losses import belief_entropy, kl_to_uniform
from apelr_model.objective import TokenBatch, batch_statistics
from apelr_model.planner_lm import PlannerLM

__all__ = ["Evaluation", "Score", "evaluate", "score"]

SEGMENT = 1024
"""Targets read at once when a long sequence is scored; state and belief run through."""


class Score(NamedTuple):
    """A sequence's targets under the model."""

    log_prob: Tensor
    """[T] log p(y_t | x_<=t), nats; minus infinity where the target is impossible."""
    log_belief: Tensor
    """[T, K] belief before each target."""
    chunk_index: list[int]
    """[T] the chunk of each target."""


@torch.no_grad()
def score(model: PlannerLM, ids: Sequence[int]) -> Score:
    """ids x_0 ... x_T (two or more) -> Score of the targets x_1 ... x_T. Any length; sets the model to eval mode.

    Raises ValueError for fewer than two ids or an id outside the vocabulary.
    """
    if len(ids) < 2:
        raise ValueError(f"scoring needs at least 2 ids (one to read, one to predict), got {len(ids)}")
    wrong = [i for i in ids if not 0 <= i < model.vocab_size]
    if wrong:
        raise ValueError(f"ids must be between 0 and {model.vocab_size - 1}, got {wrong[0]}")
    model.eval()
    row = torch.tensor([list(ids)], device=model.device)
    state = model.initial_state(1)
    log_probs, beliefs, chunks = [], [], []
    for start in range(0, len(ids) - 1, SEGMENT):
        end = min(start + SEGMENT, len(ids) - 1)
        reading = model.read(row[:, start:end], row[:, start + 1 : end + 1], state=state)
        state = reading.state
        log_probs.append(reading.filtered.token_log_prob[0])
        beliefs.append(reading.filtered.log_belief[0])
        chunks += reading.chunk_index
    return Score(torch.cat(log_probs), torch.cat(beliefs), chunks)


class Evaluation(NamedTuple):
    """Means over an evaluation set, each row read from its own start."""

    nll: float
    """Nats per target."""
    perplexity: float
    """exp(nll)."""
    bits_per_byte: float | None
    """Total NLL in bits / UTF-8 bytes of the original text; None where the bytes are unknown."""
    belief_entropy: float
    """Of the belief after each target, nats."""
    usage_kl: float
    """KL(mean belief after the target || uniform) over the whole set, nats."""
    chunk_bow: float
    """Bag-of-words cross-entropy of a chunk under the plan known at its start, nats per token."""
    plan_mi: float
    """Mutual information of plan and next token under the belief before it, nats per target."""
    chunk_post_kl: float
    """Symmetric KL of recognizer and filtered belief at chunk ends, nats."""
    usage: tuple[float, ...]
    """[K] mean belief after the target."""
    targets: int
    text_bytes: int | None


@torch.no_grad()
def evaluate(model: PlannerLM, batches: Iterable[TokenBatch], *, text_bytes: int | None = None) -> Evaluation:
    """NLL and planner diagnostics over all batches; `text_bytes` is what their targets stand for, in all.

    Leaves the model in the mode (train or eval) it was in and draws no random number. Raises ValueError for no
    batch and ImpossibleObservationError where a target has probability zero.
    """
    sums = dict.fromkeys(("nll", "belief_entropy", "plan_mi", "chunk_bow", "chunk_post_kl"), 0.0)
    usage = torch.zeros(model.config.num_plan_states, dtype=torch.float64)
    targets = chunks = 0
    with _eval_mode(model):
        for batch in batches:
            found = batch_statistics(model, batch.to(model.device), with_mixtures=True, with_recognizer=True)
            assert found.plan_mi is not None
            assert found.chunk_bow is not None
            assert found.chunk_post_kl is not None
            sums["nll"] += float(found.token_nll.sum())
            sums["belief_entropy"] += float(belief_entropy(found.log_belief_after).sum())
            sums["plan_mi"] += float(found.plan_mi.double().sum())
            sums["chunk_bow"] += float(found.chunk_bow.double().sum())
            sums["chunk_post_kl"] += float(found.chunk_post_kl.sum())
            usage += found.log_belief_after.exp().sum(0).cpu()
            targets += len(found.token_nll)
            chunks += len(found.chunk_bow)
    if targets == 0:
        raise ValueError("evaluation needs at least one batch with a target")
    nll = sums["nll"] / targets
    return Evaluation(
        nll=nll,
        perplexity=math.exp(nll) if nll < 700 else math.inf,
        bits_per_byte=sums["nll"] / math.log(2) / text_bytes if text_bytes else None,
        belief_entropy=sums["belief_entropy"] / targets,
        usage_kl=float(kl_to_uniform(usage / targets)),
        chunk_bow=sums["chunk_bow"] / chunks,
        plan_mi=sums["plan_mi"] / targets,
        chunk_post_kl=sums["chunk_post_kl"] / chunks,
        usage=tuple((usage / targets).tolist()),
        targets=targets,
        text_bytes=text_bytes,
    )


@contextmanager
def _eval_mode(model: PlannerLM) -> Iterator[None]:
    """Eval mode inside, the mode before it afterwards, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
