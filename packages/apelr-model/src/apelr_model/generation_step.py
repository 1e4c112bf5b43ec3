"""One step of generation: drawing the next token of every row, and telling how the plan stood before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import log_mean_state
from apelr_model.config import V1Config
from apelr_model.lookahead import ForecastQueue, forecast_by_powers, transition_powers
from apelr_model.model_state import Prediction
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.sampling import SamplingSettings, banned_by_ngram, choose, temper

__all__ = ["GeneratedToken", "Lookahead", "draw_next", "plan_lookahead", "report_tokens", "reported_belief"]


class GeneratedToken(NamedTuple):
    """One generated token of one row, with the plan as it stood before it."""

    row: int
    """Which prompt it continues."""
    id: int
    log_prob: float
    """The model's log-probability of the token in nats, before temperature and every other sampling step."""
    chunk: int
    """The chunk the token lies in, counted from the sequence's start."""
    belief: tuple[float, ...]
    """[K] probability of each plan state before the token; under `force_state` the gate, all on that state."""
    lookahead: tuple[tuple[float, ...], ...]
    """[n][K] forecast of the plan 1 ... n chunks ahead, from `belief`; empty unless asked for, and where forecasts
    are events of their own."""


@dataclass(frozen=True)
class Lookahead:
    """How forecasts are made."""

    powers: Tensor
    """[n, K, K]."""
    queue: ForecastQueue | None
    """Where they are events of their own."""


@torch.no_grad()
def plan_lookahead(model: PlannerLM, steps: int, *, beside: bool) -> Lookahead | None:
    """The powers of P for forecasts `steps` chunks ahead, made `beside` the tokens or with each; None for 0 steps.

    Raises ValueError for a model without a chain of plans.
    """
    if steps == 0:
        return None
    powers = transition_powers(model.log_transition(), steps)
    return Lookahead(powers, ForecastQueue(powers) if beside else None)


def draw_next(
    model: PlannerLM,
    prediction: Prediction,
    settings: SamplingSettings,
    seen: Tensor,
    histories: Sequence[Sequence[int]],
    generators: Sequence[torch.Generator],
) -> Tensor:
    """The next id of each row [B]. The temperature divides V1's logits state by state, and elsewhere the mixture."""
    log_probs = prediction.log_probs
    if settings.temperature not in (0, 1):
        if isinstance(model.config, V1Config):
            tempered = temper(prediction.state_log_probs, settings.temperature)
            log_probs = log_mean_state(prediction.log_gate, tempered)
        else:
            log_probs = temper(log_probs, settings.temperature)
    banned = [banned_by_ngram(ids, settings.no_repeat_ngram_size) for ids in histories]
    uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    return choose(log_probs, settings, seen=seen, banned=banned, uniform=uniform)


def reported_belief(prediction: Prediction, policy: PlanPolicy) -> Tensor:
    """[B, K] the belief that is shown: the gate where a state is forced."""
    return prediction.log_belief if policy.force_state is None else prediction.log_gate


def report_tokens(
    model: PlannerLM,
    prediction: Prediction,
    chosen: Tensor,
    rows: Sequence[int],
    lookahead: Lookahead | None,
    policy: PlanPolicy,
) -> list[GeneratedToken]:
    """chosen [B] ids -> what was drawn for each row, with the plan before it."""
    log_probs = prediction.log_probs.gather(1, chosen.unsqueeze(1)).squeeze(1).tolist()
    log_belief = reported_belief(prediction, policy)
    ahead: list[list[list[float]]] = [[] for _ in rows]
    if lookahead is not None and lookahead.queue is None:
        ahead = forecast_by_powers(log_belief, lookahead.powers).tolist()
    reports = zip(
        rows, chosen.tolist(), log_probs, prediction.position.tolist(), log_belief.exp().tolist(), ahead, strict=True
    )
    return [
        GeneratedToken(
            row=row,
            id=token,
            log_prob=log_prob,
            chunk=model.chunks.chunk_of(position),
            belief=tuple(belief),
            lookahead=tuple(tuple(step) for step in steps),
        )
        for row, token, log_prob, position, belief, steps in reports
    ]
