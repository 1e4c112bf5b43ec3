"""What a model costs: parameters and floating-point operations of each of its parts."""

from typing import NamedTuple

from torch import nn

from apelr_model.planner_lm import PlannerLM

__all__ = ["ModelCosts", "count_costs", "count_parameters"]


class ModelCosts(NamedTuple):
    """Parameters, and operations of the forward pass for one token, by part: executor, planner, head."""

    parameters: dict[str, int]
    """Trained numbers. An embedding tied to the head counts in the executor."""
    flops_per_token: dict[str, float]
    """Floating-point operations of the matrix products, a multiplication and an addition being two."""


def count_costs(model: PlannerLM, targets: int) -> ModelCosts:
    """The costs of a token, on average over a row of `targets` targets that is read from its start.

    The t-th token of a row sees t ids, or fewer where the executor has a window. A training step takes about three
    times the forward operations, and with a plan the head's once more: its logits are made again for the gradient.
    """
    assert isinstance(model.head, nn.Module), "a head with parameters is a module"
    shared = {id(parameter) for parameter in model.executor.parameters()}
    head = sum(parameter.numel() for parameter in model.head.parameters() if id(parameter) not in shared)
    return ModelCosts(
        {
            "executor": count_parameters(model.executor),
            "planner": count_parameters(model.planner),
            "head": head,
        },
        {
            "executor": model.executor.mean_flops_per_token(targets),
            "planner": model.planner.flops_per_token,
            "head": model.head.flops_per_token,
        },
    )


def count_parameters(module: nn.Module) -> int:
    """Trained numbers in a module, each counted once."""
    return sum(parameter.numel() for parameter in module.parameters())
