"""The plan that rows hand on: where a batch's rows go on with the rows of the batch before, so do their beliefs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from apelr_model.batches import TokenBatch
from apelr_model.plan_state import PlanState
from apelr_model.planner import Planner
from apelr_model.world import World

__all__ = ["CarriedPlan"]


class CarriedPlan:
    """The plan states after the latest batch, without gradient: at most one for each row.

    The executor begins afresh in every row: what lies further back is known to the plan alone.
    """

    def __init__(self, state: PlanState | None = None) -> None:
        self.state = state

    def before(self, planner: Planner, batch: TokenBatch) -> PlanState | None:
        """The state that each row of `batch` begins in; None where no row goes on, or nothing has been read before.

        Raises ValueError for more rows than the batch before had.
        """
        if self.state is None or batch.continues is None or not bool(batch.continues.any()):
            return None
        rows, have = len(batch.lengths), len(self.state.position)
        if rows > have:
            raise ValueError(f"{rows} rows cannot go on from the {have} rows of the batch before")
        afresh = planner.initial_state(rows)
        return PlanState(*(_chosen(batch.continues, *pair) for pair in zip(self.state, afresh, strict=True)))

    def split(self, batch: TokenBatch, parts: int) -> list["CarriedPlan"]:
        """What each part of `batch.split(parts)` goes on from."""
        if self.state is None:
            return [CarriedPlan() for _ in range(parts)]
        rows = len(batch.lengths)
        pieces = (tensor[:rows].tensor_split(parts) for tensor in self.state)
        return [CarriedPlan(PlanState(*piece)) for piece in zip(*pieces, strict=True)]

    def gathered(self, world: World) -> "CarriedPlan":
        """The plans of all processes' rows, in the order of the ranks."""
        if self.state is None:
            return self
        return CarriedPlan(PlanState(*(torch.cat(world.gathered(tensor)) for tensor in self.state)))

    def of(self, world: World) -> "CarriedPlan":
        """This process's share of all rows' plans; ValueError where they cannot be divided evenly."""
        if self.state is None:
            return self
        own = world.share(len(self.state.position))
        return CarriedPlan(PlanState(*(tensor[own] for tensor in self.state)))

    def keep_after(self, batch: TokenBatch, states: Sequence[PlanState]) -> None:
        """Remember the states after the parts of a batch, in order, where rows can go on from it."""
        if batch.continues is not None:
            self.state = PlanState(*(torch.cat(parts).detach() for parts in zip(*states, strict=True)))

    def hand_over(self, state: int, heir: int) -> None:
        """All belief in plan state `state` goes to `heir`."""
        if self.state is not None:
            belief = self.state.log_belief
            belief[:, heir] = torch.logaddexp(belief[:, heir], belief[:, state])
            belief[:, state] = -torch.inf

    def share(self, source: int, target: int) -> None:
        """Half of the belief in plan state `source` goes to `target`, which has had none."""
        if self.state is not None:
            belief = self.state.log_belief
            belief[:, source] -= math.log(2)
            belief[:, target] = belief[:, source]


def _chosen(continues: Tensor, carried: Tensor, afresh: Tensor) -> Tensor:
    """continues [B], carried [at least B, ...], afresh [B, ...] -> [B, ...]."""
    going_on = continues.to(afresh.device).view(-1, *[1] * (afresh.ndim - 1))
    return torch.where(going_on, carried[: len(afresh)].to(afresh), afresh)
