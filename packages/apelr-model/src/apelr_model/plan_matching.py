"""Do two models, or a model and known labels, find the same plans? The numbers of their states mean nothing.

Most measures come from one table: how often state i of the first goes together with state j of the second. ARI and NMI
do not ask which state is which; the matching gives the one-to-one naming under which most targets agree.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.assignment import best_assignment

__all__ = [
    "PlanComparison",
    "adjusted_rand_index",
    "compare_plans",
    "contingency",
    "match_states",
    "normalized_mutual_information",
]

SUM_TOLERANCE = 1e-3
"""How far from 1 the sum of a target's probabilities may be: low-precision posteriors are welcome."""
MOST_STATES = 1024
"""States are numbered below this: the table has a row or a column for each number up to the largest."""
ROUNDING = 1e-14
"""A share of all pairs that is not above this counts as none: so much may be left of a difference by rounding."""


class PlanComparison(NamedTuple):
    """How far two sets of plans agree, whatever their states are called."""

    table: Tensor
    """[K1, K2] how many targets have state i in the first and j in the second; expected numbers for posteriors."""
    matching: Tensor
    """[K1] the state of the second that goes with each of the first; -1 for those left over where K1 > K2."""
    accuracy: float
    """Share of the targets that agree under the matching, 0 ... 1."""
    adjusted_rand: float
    """ARI: 1 for the same partition, about 0 for unrelated ones, possibly below."""
    normalized_mutual_info: float
    """NMI: mutual information over the arithmetic mean of the two entropies, 0 ... 1."""


def compare_plans(first: Tensor, second: Tensor, mask: Tensor | None = None) -> PlanComparison:
    """first, second: [...] plan states (integers) or [..., K] probabilities; mask [...] (bool) -> PlanComparison.

    Targets where the mask is False, or a plan is -1 (outside a path), count nowhere. Raises ValueError where shapes
    differ or no target is left.
    """
    one, two = _counted(first, second, mask)
    table = one.T @ two
    matching = match_states(table)
    matched = matching >= 0
    agreeing = table[matched, matching[matched]].sum()
    return PlanComparison(
        table,
        matching,
        float(agreeing / table.sum()),
        _adjusted_rand(one, two),
        normalized_mutual_information(table),
    )


def contingency(first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
    """first, second: [...] states or [..., K] probabilities; mask [...] -> table [K1, K2] of joint counts, float64.

    With posteriors the expected counts, the two plans of a target taken as independent given the text. Of integers K
    is the largest state (below `MOST_STATES`) and one. Raises ValueError as `compare_plans`.
    """
    one, two = _counted(first, second, mask)
    return one.T @ two


def match_states(table: Tensor) -> Tensor:
    """table [K1, K2] of joint counts -> the state of the second for each of the first [K1], none twice; -1: left over.

    The matching under which most targets agree, an exact solution of the assignment problem.
    """
    return best_assignment(table)


def adjusted_rand_index(first: Tensor, second: Tensor, mask: Tensor | None = None) -> float:
    """first, second: [...] states or [..., K] probabilities; mask [...] -> ARI (Hubert and Arabie).

    Pairs of targets together in both, less chance: 1 where both partitions are the same, also where both are trivial,
    and about 0 for unrelated ones. With posteriors the expected numbers of pairs take the place of the numbers, every
    plan drawn for itself: 0 on average over the orders of the targets, and less than 1 for uncertain posteriors even
    against themselves. Raises ValueError as `compare_plans`.
    """
    return _adjusted_rand(*_counted(first, second, mask))


def _adjusted_rand(one: Tensor, two: Tensor) -> float:
    """one [N, K1], two [N, K2] probabilities -> ARI of the expected numbers of pairs."""
    count = len(one)
    same_one, same_two = one.square().sum(1), two.square().sum(1)  # [N] a target is no pair with itself
    first = (one.sum(0).square().sum() - same_one.sum()) / 2
    second = (two.sum(0).square().sum() - same_two.sum()) / 2
    together = ((one.T @ two).square().sum() - (same_one * same_two).sum()) / 2
    every = count * (count - 1) / 2
    chance = first * second / every if every else first * 0
    most = (first + second) / 2
    if not every or float(most - chance) <= ROUNDING * every:
        return 1.0
    return float((together - chance) / (most - chance))


def normalized_mutual_information(table: Tensor) -> float:
    """table [K1, K2] of joint counts -> mutual information / mean of the two entropies (arithmetic), 0 ... 1.

    1 where both partitions have one state only.
    """
    joint = table.double() / table.double().sum()
    both, first, second = (_entropy(x) for x in (joint, joint.sum(1), joint.sum(0)))
    mean = (first + second) / 2
    return 1.0 if mean == 0 else max(0.0, min(1.0, (first + second - both) / mean))


def _entropy(probabilities: Tensor) -> float:
    return -float(torch.special.xlogy(probabilities, probabilities).sum())


def _counted(first: Tensor, second: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """first, second [...] or [..., K], mask [...] -> probabilities [N, K1], [N, K2] of the targets that count."""
    one, two = _as_probabilities("first", first), _as_probabilities("second", second)
    if one.shape[:-1] != two.shape[:-1]:
        raise ValueError(
            f"the plans must be of the same targets, got {list(one.shape[:-1])} and {list(two.shape[:-1])}"
        )
    counted = (one.sum(-1) > 0) & (two.sum(-1) > 0)
    if mask is not None:
        if mask.shape != counted.shape:
            raise ValueError(f"mask must be {list(counted.shape)}, got {list(mask.shape)}")
        counted = counted & mask.to(counted.device)
    if not bool(counted.any()):
        raise ValueError("no target is left to compare")
    return one[counted], two[counted]


def _as_probabilities(name: str, plans: Tensor) -> Tensor:
    """plans [...] (integers, -1: none) or [..., K] (probabilities) -> [..., K] float64, all zero where none is."""
    if plans.is_floating_point():
        if plans.ndim < 2:
            raise ValueError(f"{name} must be [...] whole numbers or [..., K] probabilities, got {list(plans.shape)}")
        total = plans.detach().double().sum(-1)
        if bool((plans < 0).any()) or not bool((((total - 1).abs() < SUM_TOLERANCE) | (total == 0)).all()):
            raise ValueError(
                f"{name} must hold probabilities (not their logarithms) that sum to 1, or to 0 for no plan"
            )
        return plans.detach().double() / total.masked_fill(total == 0, 1).unsqueeze(-1)
    if plans.numel() == 0 or bool((plans < -1).any()):
        raise ValueError(f"{name} must hold plan states from 0 on, or -1 for none")
    largest = int(plans.max())
    if largest >= MOST_STATES:
        raise ValueError(
            f"{name} must hold plan states below {MOST_STATES}, got {largest}; "
            "torch.unique(plans, return_inverse=True) numbers the states that occur"
        )
    states = torch.arange(max(1, largest + 1), device=plans.device)
    return (plans.unsqueeze(-1) == states).double()
