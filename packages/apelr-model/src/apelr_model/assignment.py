"""The assignment problem: one column for each row, so that the sum of what they meet in is largest."""

import math

import torch
from torch import Tensor

__all__ = ["best_assignment"]


def best_assignment(values: Tensor) -> Tensor:
    """values [N, M] (finite) -> the column of each row [N], no column twice; -1 for the rows left over where N > M.

    The sum of the chosen values is the largest possible: the Hungarian method by shortest augmenting paths, O(N^2 M)
    for N <= M. Raises ValueError for another shape and for values that are not finite.
    """
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values must be [N, M], not empty, got {list(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("values must be finite")
    costs = -values.detach().cpu().double()
    rows, columns = costs.shape
    if rows > columns:
        found = torch.full((rows,), -1)
        found[best_assignment(values.T).cpu()] = torch.arange(columns)
        return found.to(values.device)
    owner = torch.full((columns + 1,), -1)  # of each column, the row that has it; the last column stands for 'none yet'
    row_price, column_price = torch.zeros(rows, dtype=torch.float64), torch.zeros(columns + 1, dtype=torch.float64)
    for row in range(rows):
        _augment(costs, row, owner, row_price, column_price)
    found = torch.empty(rows, dtype=torch.long)
    taken = owner[:columns] >= 0
    found[owner[:columns][taken]] = taken.nonzero().squeeze(1)
    return found.to(values.device)


def _augment(costs: Tensor, row: int, owner: Tensor, row_price: Tensor, column_price: Tensor) -> None:
    """Give `row` a column along the cheapest chain of rows that pass theirs on; `owner` and prices change in place.

    Prices keep costs[i, j] - row_price[i] - column_price[j] >= 0, and 0 where row i has column j.
    """
    columns = costs.shape[1]
    reached = torch.zeros(columns + 1, dtype=torch.bool)
    slack = torch.full((columns,), math.inf, dtype=torch.float64)
    before = torch.full((columns,), columns)
    owner[columns], here = row, columns
    while int(owner[here]) >= 0:
        reached[here] = True
        at = int(owner[here])
        reduced = costs[at] - row_price[at] - column_price[:columns]
        nearer = ~reached[:columns] & (reduced < slack)
        slack[nearer] = reduced[nearer]
        before[nearer] = here
        step, nearest = slack.masked_fill(reached[:columns], math.inf).min(0)
        row_price[owner[reached]] += step
        column_price[reached] -= step
        slack[~reached[:columns]] -= step
        here = int(nearest)
    while here != columns:
        owner[here] = owner[before[here]]
        here = int(before[here])
    owner[columns] = -1
