"""Plan states that are worth nothing, and what becomes of them: each takes a copy of the one that predicts worst.

Two plans that share a state from the first steps on stay together, while another state has nothing left to do: no
gradient leads out of that. After the idea of split-and-merge moves (Ueda et al. 2000, "SMEM Algorithm for Mixture
Models"), here for a model that learns by gradients: what a state is worth is measured on the texts of the steps
themselves, and a copy that is still worth nothing at the next look is taken back.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.carried_plan import CarriedPlan
from apelr_model.planner import FilterPlanner
from apelr_model.planner_lm import PlannerLM
from apelr_model.state_surgery import copy_state, retire_state

__all__ = ["PlanRecord", "PlanSplit", "PlanSplits", "SplitState"]

KEPT = 0.95
"""Share of the running means that a step leaves: they are means over about the last twenty steps."""
LEAST_WORTH = 0.1
"""Of the mean over all states: a state that is worth less is idle."""
LEAST_USAGE = 0.25
"""Of an even share, 1 / K: states that are used less do not say how well a plan can be predicted."""


class PlanSplit(NamedTuple):
    """An idle state, and what became of it."""

    state: int
    worth: float
    """Nats a token that the best other state had cost in its place."""
    heir: int
    """That other state: it has the idle one's text from now on."""
    copy_of: int | None
    """The state that the idle one is a copy of now; None where it is out of use."""


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


class SplitState(NamedTuple):
    """What earlier looks have left; on the CPU."""

    twins: Tensor
    """[K] int64, the state that each one shares a plan with since the last look; -1 for none."""
    tried: Tensor
    """[K] bool, whether a copy of the state has come to nothing."""


class PlanSplits:
    """Looks at the plan states every `interval` steps, in the first half of `max_steps`. Draws no random number of
    torch's own generators: the noise of a look is a function of its step."""

    def __init__(self, model: PlannerLM, interval: int, max_steps: int) -> None:
        """Raises ValueError for a model without a chain of plans."""
        if not isinstance(model.planner, FilterPlanner):
            raise ValueError(f"split_interval must be 0: {model.config.version} has no chain of plans")
        count = model.num_plan_states
        self.interval = interval
        self.last = max_steps // 2
        self.record: PlanRecord | None = None
        self.state = SplitState(torch.full((count,), -1), torch.zeros(count, dtype=torch.bool))
        self._model = model

    def see(self, scores: Tensor, usage: Tensor) -> None:
        """scores [K, K] and usage [K]: a step's means over its targets (`PlanRecord`).

        A step in which a target was impossible under some state has no such means, and is left out.
        """
        if not bool(scores.isfinite().all()):
            return
        new = PlanRecord(scores, usage)
        if self.record is not None:
            new = PlanRecord(*(KEPT * old + (1 - KEPT) * now for old, now in zip(self.record, new, strict=True)))
        self.record = new

    def state_dict(self) -> dict[str, Tensor]:
        """The record, where there is one, and what earlier looks have left; by name."""
        return {**({} if self.record is None else self.record._asdict()), **self.state._asdict()}

    def after(self, step: int, optimizer: torch.optim.Optimizer, carried: CarriedPlan) -> tuple[PlanSplit, ...]:
        """What becomes of the idle states after optimizer step `step`, the least worthy first.

        A state is worth what the best other state, its heir, would cost in its place; it is idle where that is less
        than `LEAST_WORTH` of the mean. While most states are worth nothing, plans have not parted, and none is called
        idle. An idle state takes a copy of the state with the largest excess (`PlanRecord.excess`; among equals the
        most used) of those that are not idle and of which no copy has been idle before. If none is left, it goes out of
        use where it has been a copy since the last look, and otherwise stays as it is.
        """
        if step % self.interval or step > self.last or self.record is None:
            return ()
        costs, excess, usage = self.record.costs(), self.record.excess().tolist(), self.record.usage.tolist()
        self.record = None  # of other states than there will be
        worth = costs.amin(1).clamp(min=0)
        if int((worth > 0).sum()) * 2 < len(worth):
            return ()
        least = LEAST_WORTH * float(worth.mean())
        (twins, tried), fresh = self.state, torch.full_like(self.state.twins, -1)
        generator = torch.Generator().manual_seed(step)
        sources = {k for k in range(len(worth)) if worth[k] >= least}
        made: list[PlanSplit] = []
        while float(worth.min()) < least:
            state = int(worth.argmin())
            heir = int(costs[state].argmin())
            failed = int(twins[state]) >= 0
            if failed:
                tried[twins[state]] = True
            found = max((k for k in sources if not tried[k]), key=lambda k: (excess[k], usage[k]), default=None)
            if found is not None or failed:
                made.append(PlanSplit(state, float(worth[state]), heir, found))
                carried.hand_over(state, heir)
                retire_state(self._model, state, heir)
            if found is not None:
                copy_state(self._model, optimizer, found, state, generator)
                carried.share(found, state)
                fresh[state], fresh[found] = found, state
                sources.remove(found)
            costs[state] = math.inf
            costs[:, state] = math.inf
            worth = costs.amin(1).clamp(min=0)
        self.state = SplitState(fresh, tried)
        return tuple(made)
