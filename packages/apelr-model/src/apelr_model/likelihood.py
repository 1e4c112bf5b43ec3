"""The negative log-likelihood of held-out rows and nothing else: the cheapest evaluation, for rows of any length."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.batches import SEGMENT, TokenBatch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.model_state import ModelState
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.reading_checks import refuse_impossible, refuse_nan
from apelr_model.scoring import eval_mode

__all__ = ["MeanNLL", "mean_nll"]


class MeanNLL(NamedTuple):
    """The mean over an evaluation set, each row read from its own start; where rows go on, the belief is carried."""

    nll: float
    """Nats per target."""
    targets: int


@torch.no_grad()
def mean_nll(model: PlannerLM, batches: Iterable[TokenBatch], *, policy: PlanPolicy | None = None) -> MeanNLL:
    """NLL over all batches, in memory that does not grow with the rows' length (a transformer's keys aside).

    `policy` says how the belief is used (None: the model's own). Leaves the model in the mode (train or eval) it was
    in and draws no random number. Raises ValueError for no batch, ImpossibleObservationError where a target has
    probability zero, and NonFiniteError where the model gives NaN.
    """
    total, targets = 0.0, 0
    carried = CarriedPlan()
    with eval_mode(model):
        for batch in batches:
            total -= float(_log_prob(model, batch.to(model.device), policy, carried))
            targets += int(batch.lengths.sum())
    if targets == 0:
        raise ValueError("evaluation needs at least one batch with a target")
    return MeanNLL(total / targets, targets)


def _log_prob(model: PlannerLM, batch: TokenBatch, policy: PlanPolicy | None, carried: CarriedPlan) -> Tensor:
    """The log-probability of all targets together, a scalar in float64."""
    width = batch.inputs.shape[1]
    padded = not bool(batch.valid.all())
    plan, found = carried.before(model.planner, batch), []
    state = None if plan is None else ModelState(model.executor.initial_carry(len(batch.lengths)), plan)
    for start in range(0, width, SEGMENT):
        here = slice(start, start + SEGMENT)
        size = min(SEGMENT, width - start)
        reading = model.read(
            batch.inputs[:, here],
            batch.targets[:, here],
            state=state,
            lengths=(batch.lengths - start).clamp(0, size) if padded else None,
            positions=None if batch.positions is None else batch.positions[:, here],
            policy=policy,
            keep_state=width > SEGMENT,
        )
        refuse_nan(reading, batch.valid[:, here])
        state = reading.state
        found.append(reading.filtered.token_log_prob)
    carried.keep_after(batch, [reading.state.plan])
    log_probs = torch.cat(found, dim=1)
    refuse_impossible(log_probs)
    return log_probs.sum()
