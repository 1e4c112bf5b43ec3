"""A scored text as JSON and as a readable table, written piece by piece so that its length does not matter."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import PlanChoice, choose_policy
from apelr_cli.plan_output import PlanKind, ShownPlans, likeliest, shown_plans
from apelr_cli.terminal_text import quoted
from apelr_model import ImpossibleObservationError, Score, score
from apelr_tokenizers import Tokenizer

__all__ = ["LOSSY", "ScoredText", "json_pieces", "score_ids", "text_pieces"]

LOSSY = (
    "the tokenizer is lossy (it does not give every text back), "
    "so bits per byte measures the text as the tokenizer sees it"
)
BLOCK = 1024
"""Targets turned from tensors into numbers at once."""


class ScoredText(NamedTuple):
    """A sequence of ids with what the model thinks of its targets."""

    ids: Sequence[int]
    """x_0 ... x_T."""
    score: Score
    text_bytes: int | None
    """UTF-8 bytes of the original text behind the targets; None where they are unknown."""
    plans: ShownPlans
    gate: str
    """How the belief was used: the exact filter, or not."""

    @property
    def nll(self) -> float:
        """Total negative log-likelihood of the targets, nats."""
        return -float(self.score.log_prob.double().sum())

    @property
    def bits_per_byte(self) -> float | None:
        """NLL in bits over the bytes of the original text."""
        return self.nll / math.log(2) / self.text_bytes if self.text_bytes else None


class ScoredTarget(NamedTuple):
    """One target."""

    id: int
    log_prob: float
    chunk: int
    plan: list[float] | int
    """[K] probabilities of the plan states, or one state."""


def score_ids(
    loaded: LoadedModel,
    ids: Sequence[int],
    text_bytes: int | None,
    shown: PlanKind = "filtered",
    choice: PlanChoice | None = None,
) -> ScoredText:
    """Score `ids`, whose targets stand for `text_bytes` bytes; `shown` says what of the plan is wanted.

    `choice` says how the belief is used (None: the model's own way); the belief that is shown under a forced state is
    the gate, all on that state.

    Raises ImpossibleObservationError naming the first target of probability zero, and ValueError where the model has
    no chain of plans to smooth or trace.
    """
    choice = choose_policy(loaded.model, {}) if choice is None else choice
    found = score(loaded.model, ids, policy=choice.policy, with_trellis=shown != "filtered")
    impossible = found.log_prob == -math.inf
    if bool(impossible.any()):
        position = int(impossible.nonzero()[0])
        raise ImpossibleObservationError(
            f"target {position} (id {ids[position + 1]}) has probability zero under the model: its NLL is infinite"
        )
    if choice.policy.force_state is not None:
        found = found._replace(log_belief=found.log_gate)
    plans = shown_plans(found, shown)
    return ScoredText(ids, found, text_bytes, plans, choice.gate)


def json_pieces(scored: ScoredText) -> Iterator[str]:
    """The JSON object {"tokens", "nll", "bits_per_byte", what there is of the plan, "gate"} in pieces, one line."""
    yield '{"tokens": ['
    for position, target in enumerate(_targets(scored)):
        yield ", " if position else ""
        entry = {"id": target.id, "log_prob": target.log_prob, "chunk": target.chunk, scored.plans.key: target.plan}
        yield json.dumps(entry, allow_nan=False)
    totals = {"nll": scored.nll, "bits_per_byte": scored.bits_per_byte, **scored.plans.totals, "gate": scored.gate}
    yield "], " + json.dumps(totals, allow_nan=False)[1:] + "\n"


def text_pieces(scored: ScoredText, tokenizer: Tokenizer) -> Iterator[str]:
    """A summary, then one aligned line for each target: position, id, log-probability, chunk, plan, text."""
    yield from (f"{line}\n" for line in _summary(scored, tokenizer))
    yield f"\n{'target':>8} {'id':>7} {'log_prob':>10} {'chunk':>7}  {scored.plans.heading:<12} text\n"
    for position, target in enumerate(_targets(scored)):
        plan = _plan_text(target.plan)
        text = quoted(tokenizer.decode([target.id]))
        yield f"{position:>8} {target.id:>7} {target.log_prob:>10.4f} {target.chunk:>7}  {plan:<12} {text}\n"


def _summary(scored: ScoredText, tokenizer: Tokenizer) -> Iterator[str]:
    count = len(scored.ids) - 1
    per_token = scored.nll / count
    perplexity = math.exp(per_token) if per_token < 700 else math.inf
    yield f"targets         {count}"
    yield f"nll             {scored.nll:.4f} nats"
    yield f"nats per token  {per_token:.4f}"
    yield f"perplexity      {perplexity:.4f}"
    if scored.bits_per_byte is None:
        yield "bits per byte   unknown: ids do not say how many bytes of text they stand for"
    else:
        yield f"bits per byte   {scored.bits_per_byte:.4f} ({scored.text_bytes} bytes)"
    yield from scored.plans.summary
    yield "tokenizer       lossless" if tokenizer.lossless else f"tokenizer       {LOSSY}"


def _targets(scored: ScoredText) -> Iterator[ScoredTarget]:
    count = len(scored.ids) - 1
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        log_probs = scored.score.log_prob[start:end].tolist()
        plans = scored.plans.values(start, end)
        for offset, (log_prob, plan) in enumerate(zip(log_probs, plans, strict=True)):
            t = start + offset
            yield ScoredTarget(scored.ids[t + 1], log_prob, scored.score.chunk_index[t], plan)


def _plan_text(plan: list[float] | int) -> str:
    """The likeliest state with its probability, or the state itself."""
    if isinstance(plan, int):
        return str(plan)
    state = likeliest(plan)
    return f"{state}:{plan[state]:.2f}"
