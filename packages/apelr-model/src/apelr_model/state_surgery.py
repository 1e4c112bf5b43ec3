"""Plan states copied and taken out of use in a model that is being trained: parameters and optimizer moments."""

import math
from typing import Any

import torch
from torch import Tensor

from apelr_model.planner import FilterPlanner
from apelr_model.planner_lm import PlannerLM

__all__ = ["copy_state", "retire_state"]

NOISE = 0.3
"""Standard deviation of the noise on a copy's part of the head, of that between the states' parts."""
RETIRED = 10.0
"""Nats by which a state out of use is less likely than the one that has its text."""
MOVES_OF_TWO = math.log(9)
"""Where there are two states alone: nats by which a copy and its source rather stay than change places."""


@torch.no_grad()
def copy_state(
    model: PlannerLM, optimizer: torch.optim.Optimizer, source: int, target: int, generator: torch.Generator
) -> None:
    """State `target` becomes a copy of `source`, with its moments, and the two share what the source had alone.

    Each has half the source's initial weight and half of every way to it; from one to the other the chain moves as from
    the source to any other state. Noise from `generator` on the copy's part of the head tells the two apart.
    """
    planner = _chain(model)
    heads = model.head.state_parameters()
    spreads = [NOISE * _spread(each.view(model.num_plan_states, -1), source, target) for each in heads]
    for parameter in (*heads, *planner.state_parameters()):
        for values in _with_moments(parameter, optimizer):
            blocks = values.view(model.num_plan_states, -1)
            blocks[target] = blocks[source]
    planner.initial_logits[[source, target]] -= math.log(2)
    moves, *moments = _with_moments(planner.transition_logits, optimizer)
    between = _copied_moves(moves, source, target, MOVES_OF_TWO)
    for values in moments:
        _copied_moves(values, source, target, 0.0)
    moves[:, [source, target]] -= math.log(2)
    stays = moves[source, source] + math.log(2)
    between = torch.minimum(between, stays - math.log(2))
    moves[source, target] = moves[target, source] = between
    moves[source, source] = moves[target, target] = stays + torch.log1p(-(between - stays).exp())
    for parameter, spread in zip(heads, spreads, strict=True):
        blocks = parameter.view(model.num_plan_states, -1)
        noise = torch.randn(blocks[target].shape, generator=generator, dtype=blocks.dtype)
        blocks[target] += spread * noise.to(blocks.device)


@torch.no_grad()
def retire_state(model: PlannerLM, state: int, heir: int) -> None:
    """`heir` takes over the initial weight of `state` and every way to it; `state` keeps e^-`RETIRED` of that."""
    planner = _chain(model)
    for logits in (planner.initial_logits.unsqueeze(0), planner.transition_logits):
        logits[:, heir] = torch.logaddexp(logits[:, heir], logits[:, state])
        logits[:, state] = logits[:, heir] - RETIRED


def _chain(model: PlannerLM) -> FilterPlanner:
    assert isinstance(model.planner, FilterPlanner), "PlanSplits takes no other"
    return model.planner


def _spread(blocks: Tensor, source: int, target: int) -> Tensor:
    """blocks [K, N], a state's part of the head in a row -> standard deviation between the states' parts.

    The part of `target`, which is idle, counts as a copy of the source's; of two states that would leave no spread, so
    there it counts as it is.
    """
    parts = blocks
    if len(blocks) > 2:
        parts = blocks.clone()
        parts[target] = parts[source]
    return (parts - parts.mean(0)).std()


def _with_moments(parameter: Tensor, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    moments: list[Any] = list(optimizer.state.get(parameter, {}).values())  # it is a defaultdict
    return [parameter, *(each for each in moments if isinstance(each, Tensor) and each.shape == parameter.shape)]


def _copied_moves(values: Tensor, source: int, target: int, apart: float) -> Tensor:
    """values [K, K], from row to column: the target's row and column become the source's, staying included.

    Returns what stands in the source's row for any third state, on average (staying less `apart` where there is none).
    """
    stays = values[source, source].clone()
    third = [k for k in range(len(values)) if k not in (source, target)]
    between: Tensor = values[source, third].mean() if third else stays - apart
    values[:, target] = values[:, source]
    values[target] = values[source]
    values[source, source] = values[target, target] = stays
    values[source, target] = values[target, source] = between
    return between
