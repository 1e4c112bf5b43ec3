"""How sure is a mean? Confidence intervals by drawing the rows of a test set anew."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Interval", "bootstrap_mean"]

DRAWS_AT_ONCE = 2**20
"""Row numbers that are drawn in one piece."""
TAIL = 0.025
"""Share of the drawn means below the interval, and above it."""


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float | None
    """None where there is one row: nothing can be said about others."""
    high: float | None


def bootstrap_mean(sums: Tensor, counts: Tensor, *, resamples: int, generator: torch.Generator) -> Interval:
    """sums [N] of the values in each row, counts [N] of them -> mean over all values, and its 95 % interval.

    The percentile bootstrap (Efron 1979) over rows, which may depend on nothing but themselves: N rows are drawn with
    replacement `resamples` times, and the interval holds the middle 95 % of the means sum(sums) / sum(counts). Rows
    without a value count nowhere. Draws from `generator` (on the CPU) alone. Raises ValueError where no row has a
    value, or for less than one resample.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}")
    kept = counts > 0
    sums, counts = sums[kept].double().cpu(), counts[kept].double().cpu()
    rows = len(counts)
    if not rows:
        raise ValueError("no row has a value to take the mean of")
    mean = float(sums.sum() / counts.sum())
    if rows == 1:
        return Interval(mean, None, None)
    size = max(1, DRAWS_AT_ONCE // rows)
    means = []
    for start in range(0, resamples, size):
        drawn = torch.randint(rows, (min(size, resamples - start), rows), generator=generator)
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = torch.cat(means).quantile(torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64)).tolist()
    return Interval(mean, low, high)
