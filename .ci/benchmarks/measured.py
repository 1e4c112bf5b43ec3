"""A run of benchmarks, and the rows of its table: what was found, the target, and whether it is met."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from apelr_cli.benchmark_timing import CLOCKS, Figure, Times, Work, figure_of, three_figures, time_in_turn

UNITS = {"x": (1, "x"), "%": (100, "%"), "/s": (1, "/s"), "GFLOP/s": (1e-9, "GFLOP/s"), "GB/s": (1e-9, "GB/s")}
UNITS |= {"ms": (1e3, "ms"), "MiB": (2**-20, "MiB"), "": (1, "")}
"""How a figure is shown: a factor, and what stands after it."""


class Target(NamedTuple):
    """What a figure should be: `sign` is >= or <=."""

    sign: str
    bound: float

    def met(self, value: float) -> bool:
        """Whether a value is as it should be."""
        return {">=": operator.ge, "<=": operator.le}[self.sign](value, self.bound)


def at_least(bound: float) -> Target:
    """A lower bound."""
    return Target(">=", bound)


def at_most(bound: float) -> Target:
    """An upper bound."""
    return Target("<=", bound)


class Row(NamedTuple):
    """A line of a table."""

    work: str
    figure: Figure
    unit: str = "x"
    target: Target | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it; values in base units (seconds, bytes, operations a second, shares)."""
        target = None if self.target is None else f"{self.target.sign} {self.target.bound:g}"
        met = None if self.target is None else self.target.met(self.figure.median)
        return {"work": self.work, **self.figure._asdict(), "unit": self.unit, "target": target, "met": met}


def single(value: float) -> Figure:
    """The figure of something that was measured once."""
    return figure_of([value])


def number(value: float, unit: str) -> str:
    """A value as a table shows it."""
    return three_figures(value * UNITS[unit][0])


@dataclass
class Run:
    """How a run measures; it keeps the seconds of all works that were timed."""

    rounds: int
    clock: str
    device: torch.device
    seconds: dict[str, Figure] = field(default_factory=dict)
    points: dict[str, list[list[float]]] = field(default_factory=dict)
    """Curves of a plot: [size, value] by name."""

    def time(self, works: Mapping[str, Work], *, least_seconds: float = 0.05) -> Times:
        """Time works in turn."""
        found = time_in_turn(
            works, rounds=self.rounds, clock=CLOCKS[self.clock], least_seconds=least_seconds, device=self.device
        )
        self.seconds |= {name: found.each(name) for name in works}
        return found
