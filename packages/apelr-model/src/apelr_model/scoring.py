"""Scoring and evaluation: what the model thinks of a given text, by the same recursion as training."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.batch_statistics import mixture_statistics, read_batches, recognizer_kl
from apelr_model.batches import SEGMENT, TokenBatch
from apelr_model.emissions import gate_information
from apelr_model.losses import belief_entropy, kl_to_uniform
from apelr_model.model_state import Reading
from apelr_model.planner import FilterPlanner, observed_targets
from apelr_model.planner_lm import PlannerLM
from apelr_model.planner_versions import V1Planner
from apelr_model.policy import PlanPolicy
from apelr_model.reading_checks import refuse_nan
from apelr_model.trellis import PlanTrellis, plan_trellis
from apelr_model.world import World

__all__ = ["Evaluation", "Score", "eval_mode", "evaluate", "score"]


class Score(NamedTuple):
    """A sequence's targets under the model."""

    log_prob: Tensor
    """[T] log p(y_t | x_<=t), nats; minus infinity where the target is impossible."""
    log_belief: Tensor
    """[T, K] belief before each target."""
    log_gate: Tensor
    """[T, K] log-weights of the plan states in each target's prediction: the belief, unless the policy says more."""
    chunk_index: list[int]
    """[T] the chunk of each target."""
    trellis: PlanTrellis | None = None
    """The forward pass over the chunks of the text (B = 1), for `smooth_plans` and the like; None if not asked for."""


@torch.no_grad()
def score(
    model: PlannerLM, ids: Sequence[int], *, policy: PlanPolicy | None = None, with_trellis: bool = False
) -> Score:
    """ids x_0 ... x_T (two or more) -> Score of the targets x_1 ... x_T. Any length; sets the model to eval mode.

    `policy` says how the belief is used (None: the model's own). Raises ValueError for fewer than two ids, an id
    outside the vocabulary, a policy that the model does not have, or `with_trellis` where it has no chain of plans;
    NonFiniteError where the model gives NaN.
    """
    if len(ids) < 2:
        raise ValueError(f"scoring needs at least 2 ids (one to read, one to predict), got {len(ids)}")
    wrong = [i for i in ids if not 0 <= i < model.vocab_size]
    if wrong:
        raise ValueError(f"ids must be between 0 and {model.vocab_size - 1}, got {wrong[0]}")
    if with_trellis and not isinstance(model.planner, FilterPlanner):
        raise ValueError(f"{model.config.version} has no chain of plans, so there is nothing to smooth or to trace")
    model.eval()
    row = torch.tensor([list(ids)], device=model.device)
    state = model.initial_state(1)
    log_probs, beliefs, gates, chunks, kept = [], [], [], [], []
    for start in range(0, len(ids) - 1, SEGMENT):
        end = min(start + SEGMENT, len(ids) - 1)
        reading = model.read(row[:, start:end], row[:, start + 1 : end + 1], state=state, policy=policy)
        refuse_nan(reading)
        state = reading.state
        log_probs.append(reading.filtered.token_log_prob[0])
        beliefs.append(reading.filtered.log_belief[0])
        gates.append(reading.filtered.log_gate[0])
        chunks += model.chunks.chunks(reading.positions[0]).tolist()
        if with_trellis:
            kept.append((reading.state_log_probs, _evidence_of_new_chunks(reading)))
    trellis = _whole_trellis(model, kept, policy) if with_trellis else None
    return Score(torch.cat(log_probs), torch.cat(beliefs), torch.cat(gates), chunks, trellis)


def _evidence_of_new_chunks(reading: Reading) -> Tensor | None:
    """[1, S, K] of the chunks that begin in the reading: its first run may only go on with an earlier one."""
    return (
        None
        if reading.evidence is None
        else reading.evidence[:, reading.segments.begins[0].to(reading.evidence.device)]
    )


def _whole_trellis(
    model: PlannerLM, kept: list[tuple[Tensor, Tensor | None]], policy: PlanPolicy | None
) -> PlanTrellis:
    """The trellis of a text that was read in pieces of [1, T, K] with evidence [1, S, K]."""
    assert isinstance(model.planner, FilterPlanner)
    policy = model.policy if policy is None else policy
    found = torch.cat([piece for piece, _ in kept], dim=1)
    positions = torch.arange(found.shape[1], device=found.device).unsqueeze(0)
    evidence = [weights for _, weights in kept if weights is not None]
    return plan_trellis(
        found,
        model.planner.log_initial(),
        model.planner.log_transition(),
        model.chunks.segments(positions, frozen_from=policy.freeze_after),
        evidence=torch.cat(evidence, dim=1) if evidence else None,
        observed=observed_targets(positions, policy, 1),
    )


class Evaluation(NamedTuple):
    """Means over an evaluation set, each row read from its own start; where rows go on, the belief is carried."""

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
    plan_mi: float
    """Mutual information of plan and next token under the gate, nats per target."""
    chunk_bow: float | None
    """Bag-of-words cross-entropy of a chunk under the plan known at its start, nats per token; None without chunks."""
    chunk_post_kl: float | None
    """Symmetric KL of V1's recognizer and the filtered belief at chunk ends, nats; None in other versions."""
    usage: tuple[float, ...]
    """[K] mean belief after the target."""
    targets: int
    text_bytes: int | None


@torch.no_grad()
def evaluate(
    model: PlannerLM,
    batches: Iterable[TokenBatch],
    *,
    text_bytes: int | None = None,
    policy: PlanPolicy | None = None,
    world: World | None = None,
) -> Evaluation:
    """NLL and planner diagnostics over all batches; `text_bytes` is what their targets stand for, in all.

    In a `world` of several processes each reads batches of its own, as many as there are for it, and all get the means
    over the batches of all. `policy` says how the belief is used (None: the model's own). Leaves the model in the mode
    (train or eval) it was in and draws no random number. Raises ValueError for no batch, ImpossibleObservationError
    where a target has probability zero, and NonFiniteError where the model gives NaN.
    """
    sums = dict.fromkeys(("nll", "belief_entropy", "plan_mi", "chunk_bow", "chunk_post_kl"), 0.0)
    usage = torch.zeros(model.num_plan_states, dtype=torch.float64)
    targets = chunks = 0.0
    planner = model.planner
    world = World() if world is None else world
    with eval_mode(model):
        for found in read_batches(model, batches, policy=policy):
            if isinstance(planner, FilterPlanner):
                mixed = mixture_statistics(model, found)
                information = mixed.plan_mi
                sums["chunk_bow"] += float(mixed.chunk_bow.double().sum())
                chunks += len(mixed.chunk_bow)
            else:  # without chunks there are no bags of words, which cost more than the information alone
                information = gate_information(model.head, found.hidden, found.log_gate)
            sums["nll"] += float(found.token_nll.sum())
            sums["belief_entropy"] += float(belief_entropy(found.log_belief_after).sum())
            sums["plan_mi"] += float(information.double().sum())
            if isinstance(planner, V1Planner):
                sums["chunk_post_kl"] += float(recognizer_kl(planner, found).sum())
            usage += found.log_belief_after.exp().sum(0).cpu()
            targets += len(found.token_nll)
    usage, own = world.total(usage), torch.tensor([*sums.values(), targets, chunks], dtype=torch.float64)
    *values, targets, chunks = world.total(own).tolist()
    if targets == 0:
        raise ValueError("evaluation needs at least one batch with a target")
    sums = dict(zip(sums, values, strict=True))
    nll = sums["nll"] / targets
    return Evaluation(
        nll=nll,
        perplexity=math.exp(nll) if nll < 700 else math.inf,
        bits_per_byte=sums["nll"] / math.log(2) / text_bytes if text_bytes else None,
        belief_entropy=sums["belief_entropy"] / targets,
        usage_kl=float(kl_to_uniform(usage / targets)),
        plan_mi=sums["plan_mi"] / targets,
        chunk_bow=sums["chunk_bow"] / chunks if isinstance(planner, FilterPlanner) else None,
        chunk_post_kl=sums["chunk_post_kl"] / chunks if isinstance(planner, V1Planner) else None,
        usage=tuple((usage / targets).tolist()),
        targets=int(targets),
        text_bytes=text_bytes,
    )


@contextmanager
def eval_mode(model: PlannerLM) -> Iterator[None]:
    """Eval mode inside, the mode before it afterwards, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
