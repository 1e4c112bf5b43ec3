"""How long things take beside each other: works timed in turn, and figures as medians with their spread.

A machine's speed changes from one minute to the next. Works that are to be compared are therefore run in turn, round
after round, and each ratio is taken within a round before the median over the rounds.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

__all__ = ["CLOCKS", "Figure", "Times", "Work", "figure_of", "three_figures", "time_in_turn"]

Work = Callable[[], Any]
"""Something to time. What it gives back is dropped."""

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
"""wall: time that passes. processor: time of this process on all cores together, which other programs disturb less;
with one thread the same on an idle machine, with several, or with a device of its own, no measure of speed."""


class Figure(NamedTuple):
    """What was found in all rounds."""

    median: float
    lower_quartile: float
    upper_quartile: float


def figure_of(values: Sequence[float]) -> Figure:
    """The median of one or more values, and the quartiles (of a single value: itself)."""
    if len(values) == 1:
        return Figure(values[0], values[0], values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(median, lower, upper)


def three_figures(value: float) -> str:
    """A value with three figures, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Times(NamedTuple):
    """Seconds that one call of each work took, round by round."""

    seconds: Mapping[str, tuple[float, ...]]

    def each(self, name: str) -> Figure:
        """Seconds a call."""
        return figure_of(self.seconds[name])

    def rate(self, name: str, amount: float) -> Figure:
        """`amount` a second, where one call does that much."""
        return figure_of([amount / seconds for seconds in self.seconds[name]])

    def ratio(self, name: str, of: str) -> Figure:
        """Seconds of `name` as a multiple of those of `of` in the same round."""
        return figure_of(self._ratios(name, of))

    def scaled(self, name: str, of: str, factor: float) -> Figure:
        """`ratio` times a number, such as one that counts how much either does."""
        return figure_of([ratio * factor for ratio in self._ratios(name, of)])

    def share_of_rate(self, name: str, amount: float, limits: Mapping[str, float]) -> Figure:
        """The rate of `name` over the best rate among the limits in the same round; amounts are of one call each."""
        own = [amount / seconds for seconds in self.seconds[name]]
        return figure_of([rate / limit for rate, limit in zip(own, self._best_rates(limits), strict=True)])

    def best_rate(self, amounts: Mapping[str, float]) -> Figure:
        """The best rate among several works in each round; amounts are of one call each."""
        return figure_of(self._best_rates(amounts))

    def _best_rates(self, amounts: Mapping[str, float]) -> list[float]:
        rates = [[amount / seconds for seconds in self.seconds[name]] for name, amount in amounts.items()]
        return [max(values) for values in zip(*rates, strict=True)]

    def _ratios(self, name: str, of: str) -> list[float]:
        return [a / b for a, b in zip(self.seconds[name], self.seconds[of], strict=True)]


def time_in_turn(
    works: Mapping[str, Work],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    least_seconds: float = 0.0,
    most_calls: int = 1000,
    device: torch.device | None = None,
) -> Times:
    """Run every work in every round and say how long one call took there.

    A first call of each warms up and is not counted. A work that was faster in it than `least_seconds` is tried once
    more, and is called as often in each round as makes up for that, at most `most_calls` times; its time there is the
    mean. Every other round goes through the works backwards, so that none always follows the same one. On a CUDA
    `device` each time includes the end of the work there. Raises ValueError for fewer rounds than one.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}")

    def seconds_of(work: Work, calls: int) -> float:
        _wait_for(device)
        started = clock()
        for _ in range(calls):
            work()
        _wait_for(device)
        return (clock() - started) / calls

    calls = {}
    for name, work in works.items():
        first = seconds_of(work, 1)  # with what is made once, at the first call
        again = seconds_of(work, 1) if first < least_seconds else first
        calls[name] = _calls_for(again, least_seconds, most_calls)
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works) if number % 2 == 0 else reversed(list(works)):
            found[name].append(seconds_of(works[name], calls[name]))
    return Times({name: tuple(seconds) for name, seconds in found.items()})


def _calls_for(seconds: float, least_seconds: float, most_calls: int) -> int:
    if seconds <= 0:
        return most_calls if least_seconds > 0 else 1
    return max(1, min(most_calls, math.ceil(least_seconds / seconds)))


def _wait_for(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
