"""Plan states that are worth nothing, and what becomes of them: each takes a copy of one that serves two plans.

The split-and-merge moves of Ueda et al. (2000, "SMEM Algorithm for Mixture Models") for a model that learns by
gradients. Two plans that share a state from the first steps on stay together, while another state has nothing left to
do: no gradient leads out of that. What a state is worth is measured on the texts of the steps themselves.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from apelr_model.planner import FilterPlanner
from apelr_model.planner_lm import PlannerLM

__all__ = ["PlanRecord", "PlanSplit", "PlanSplits"]

KEPT = 0.95
"""Share of the running means that a step leaves: they are means over about the last twenty steps."""
LEAST_WORTH = 0.1
"""Of the mean over all states: a state that is worth less is split off another."""
LEAST_USAGE = 0.25
"""Of an even share, 1 / K: states that are used less do not say how well a plan can be predicted."""
NOISE = 0.3
"""Standard deviation of the noise on a copy's part of the head, of that between the states' parts."""


class PlanSplit(NamedTuple):
    """A state that was given up, and the one it is a copy of now."""

    state: int
    worth: float
    """Nats a token that the best other state had cost in its place."""
    copy_of: int


class PlanRecord(NamedTuple):
    """Running means over targets; float64, on the CPU."""

    scores: Tensor
    """[K, K] belief in i after a target times the target's log-probability under j, nats."""
    usage: Tensor
    """[K] belief after a target."""

    def costs(self) -> Tensor:
        """-> [K, K] nats a token that giving state i's text to state j costs; infinite for i = j."""
        return (self.scores.diagonal().unsqueeze(1) - self.scores).fill_diagonal_(math.inf)

    def excess(self) -> Tensor:
        """-> [K] nats a token that each state's text costs more than it had under the best state's own NLL."""
        nll = -self.scores.diagonal() / self.usage.clamp(min=torch.finfo(torch.float64).tiny)
        return self.usage * (nll - nll[self.usage >= LEAST_USAGE / len(nll)].min()).clamp(min=0)


class PlanSplits:
    """Looks at the plan states every `interval` steps, in the first half of `max_steps`. Draws no random number of
    torch's own generators: the noise of a look is a function of its step."""

    def __init__(self, model: PlannerLM, interval: int, max_steps: int) -> None:
        """Raises ValueError for a model without a chain of plans."""
        if not isinstance(model.planner, FilterPlanner):
            raise ValueError(f"split_interval must be 0: {model.config.version} has no chain of plans")
        self.interval = interval
        self.last = max_steps // 2
        self.record: PlanRecord | None = None
        self._model, self._planner = model, model.planner

    def see(self, scores: Tensor, usage: Tensor) -> None:
        """scores [K, K] and usage [K]: a step's means over its targets (`PlanRecord`)."""
        new = PlanRecord(scores, usage)
        if self.record is not None:
            new = PlanRecord(*(KEPT * old + (1 - KEPT) * now for old, now in zip(self.record, new, strict=True)))
        self.record = new

    def after(self, step: int, optimizer: torch.optim.Optimizer) -> tuple[PlanSplit, ...]:
        """The splits that are made after optimizer step `step`, the least worthy state first.

        A state is worth what the best other state would cost in its place. What is worth less than `LEAST_WORTH` of the
        mean takes a copy of the state with the largest excess (`PlanRecord.excess`), among equals of the most used one.
        A look copies no state twice.
        """
        if step % self.interval or step > self.last or self.record is None:
            return ()
        costs, excess, usage = self.record.costs(), self.record.excess().tolist(), self.record.usage.tolist()
        least = LEAST_WORTH * float(costs.amin(1).mean())
        generator = torch.Generator().manual_seed(step)
        left = set(range(len(usage)))  # states that are neither given up nor copied yet
        splits: list[PlanSplit] = []
        while len(left) > 1:
            worth = costs.amin(1)
            state = int(worth.argmin())
            if not float(worth[state]) < least:
                break
            left.remove(state)
            source = max(left, key=lambda k: (excess[k], usage[k]))
            left.remove(source)
            splits.append(PlanSplit(state, float(worth[state]), source))
            self._copy(source, state, optimizer, generator)
            costs[[state, source]] = math.inf
            costs[:, state] = math.inf
        self.record = None  # of other states than there are now
        return tuple(splits)

    @torch.no_grad()
    def _copy(self, source: int, target: int, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
        """Parameters and moments of state `source` to state `target`; noise tells the copy from what it is one of."""
        states = self._planner.num_plan_states
        heads = self._model.head.state_parameters()
        for parameter in (*heads, *self._planner.state_parameters()):
            for values in _with_moments(parameter, optimizer):
                blocks = values.view(states, -1)
                blocks[target] = blocks[source]
        for values in _with_moments(self._planner.transition_logits, optimizer):
            _copy_moves(values, source, target)
        for parameter in heads:
            blocks = parameter.view(states, -1)
            spread = NOISE * (blocks - blocks.mean(0)).std()
            noise = torch.randn(blocks[target].shape, generator=generator, dtype=blocks.dtype)
            blocks[target] += spread * noise.to(blocks.device)


def _with_moments(parameter: Tensor, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    moments: list[Any] = list(optimizer.state.get(parameter, {}).values())  # it is a defaultdict
    return [parameter, *(each for each in moments if isinstance(each, Tensor) and each.shape == parameter.shape)]


def _copy_moves(values: Tensor, source: int, target: int) -> None:
    """values [K, K], from row to column: each of the two stays as the source did; between them as to any other."""
    stays = values[source, source].clone()
    elsewhere = (values[source].sum() - stays) / (len(values) - 1)
    values[:, target] = values[:, source]
    values[target] = values[source]
    values[source, source] = values[target, target] = stays
    values[source, target] = values[target, source] = elsewhere
