"""What one optimizer step did, in numbers: of all micro-batches in all processes."""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.plan_splits import PlanSplit
from apelr_model.world import World

__all__ = ["Figures", "StepReport", "figures_of_all"]


class StepReport(NamedTuple):
    """What one optimizer step did."""

    step: int
    """How many steps have been made, this one included."""
    loss: float
    """The weighted sum of all terms, nats."""
    terms: dict[str, float]
    """Every term that has a weight, and `nll`, by name; nats."""
    learning_rate: float
    grad_norm: float
    """Norm of the gradient before clipping."""
    targets: int
    """Unpadded targets in the step's rows."""
    usage: tuple[float, ...]
    """[K] mean probability of each plan state after a target, over the step's rows."""
    splits: tuple[PlanSplit, ...] = ()
    """Plan states that were given up after the step for copies of others (`split_interval`)."""
    skipped: str | None = None
    """Why no parameter was changed (`skip_non_finite`): then there are no terms, and the other figures are NaN."""


class Figures(NamedTuple):
    """A step's numbers, on the CPU."""

    loss: float
    terms: dict[str, float]
    usage: Tensor
    scores: Tensor | None


def figures_of_all(made: list[dict[str, Tensor]], world: World) -> Figures:
    """Those of the full batch, from its micro-batches' in every process."""
    names = list(made[0])
    parts = [torch.stack([figures[name].cpu().double() for figures in made]).sum(0) for name in names]
    sums = world.total(torch.cat([part.flatten() for part in parts])).split([part.numel() for part in parts])
    found = {name: whole.view(part.shape) for name, whole, part in zip(names, sums, parts, strict=True)}
    usage, scores = found.pop("usage"), found.pop("scores", None)
    terms = {name: float(value) for name, value in found.items()}
    return Figures(terms.pop("loss"), terms, usage, scores)
