"""Curves of a run as data: what metrics.jsonl holds, series by series."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from apelr_cli.report.run_files import RunFiles

__all__ = ["Chart", "Series", "UsageChart", "comparison_charts", "run_charts", "usage_chart"]

Item = TypeVar("Item")

LINES = (
    ("nll", "Loss", "nats per token"),
    ("bits_per_byte", "Bits per byte", "bits per byte of the original text"),
    ("learning_rate", "Learning rate", "as scheduled"),
    ("plan_mi", "Plan MI", "mutual information of plan and next token, nats"),
    ("tokens_per_second", "Speed", "training tokens a second"),
)
"""Key of a line of metrics.jsonl, title, and what is drawn."""
LOGARITHMIC = ("nll", "bits_per_byte")
"""Charts whose first values are far above all others."""
MOST_POINTS = 400
"""Points of a series; of longer ones every n-th is drawn, and the last."""
BANDS = 8
"""States that have a band of their own where usage is drawn; all others share one."""


class Series(NamedTuple):
    """One line."""

    name: str
    points: tuple[tuple[int, float], ...]
    """(step, value), by step."""


class Chart(NamedTuple):
    """Lines over training steps."""

    key: str
    title: str
    unit: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    """Values to compare with, drawn across: (name, value)."""
    across: str = "step"
    """What the points are numbered by."""

    @property
    def last(self) -> int:
        """The highest number of a point."""
        return max(step for each in self.series for step, _ in each.points)

    @property
    def values(self) -> list[float]:
        """All that are drawn."""
        return [value for each in self.series for _, value in each.points] + [value for _, value in self.levels]

    @property
    def is_logarithmic(self) -> bool:
        """Whether equal ratios of values are equal distances."""
        return self.key in LOGARITHMIC and min(self.values) > 0

    @property
    def axes(self) -> str:
        """What the two axes are, in words."""
        scale = ("logarithmic scale",) if self.is_logarithmic else ()
        return ", ".join((self.unit, *scale, f"by {self.across}"))


class UsageChart(NamedTuple):
    """How much each plan state is used, over training steps."""

    steps: tuple[int, ...]
    bands: tuple[int | None, ...]
    """Plan states; None stands for all others together."""
    shares: tuple[tuple[float, ...], ...]
    """[bands][steps], summing to 1 over the bands."""


def run_charts(files: RunFiles) -> tuple[Chart, ...]:
    """The curves of one run that have at least one point."""
    charts = []
    for key, title, unit in LINES:
        series = [_series(files, f"{name}", kinds, key) for name, kinds in _parts(key)]
        if key == "nll" and _differs(files):
            series.insert(1, _series(files, "training loss, all terms", ("train",), "loss"))
        levels = _references(files) if key == "bits_per_byte" else ()
        found = tuple(each for each in series if each.points and not _has_no_plan(key, each))
        charts.append(Chart(key, title, unit, found, levels))
    return tuple(chart for chart in charts if chart.series)


def comparison_charts(runs: Sequence[tuple[str, RunFiles]]) -> tuple[Chart, ...]:
    """The curves of several (named) runs over each other: one line a run, the held-out text where it is read."""
    charts = []
    for key, title, unit in LINES:
        name, kinds = _parts(key)[-1]
        series = [_series(files, label, kinds, key) for label, files in runs]
        found = tuple(each for each in series if each.points and not _has_no_plan(key, each))
        words = f"{name} text, {unit}" if name == "held-out" else unit
        charts.append(Chart(key, title, words, found))
    return tuple(chart for chart in charts if chart.series)


def usage_chart(files: RunFiles) -> UsageChart | None:
    """Usage of the plan states in training; None where there are no states to tell apart."""
    lines = [line for line in files.of_kind("train") if len(line.get("usage") or ()) > 1]
    if not lines or len({len(line["usage"]) for line in lines}) > 1:
        return None
    lines = _thinned(lines)
    total = [sum(line["usage"][k] for line in lines) for k in range(len(lines[0]["usage"]))]
    largest = sorted(range(len(total)), key=lambda k: -total[k])[:BANDS]
    bands: list[int | None] = [*sorted(largest)]
    shares = [tuple(float(line["usage"][k]) for line in lines) for k in sorted(largest)]
    if len(total) > len(largest):
        bands.append(None)
        shares.append(tuple(max(0.0, 1 - sum(band[i] for band in shares)) for i in range(len(lines))))
    return UsageChart(tuple(line["step"] for line in lines), tuple(bands), tuple(shares))


def _parts(key: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The lines of a chart of one run: name, kinds of lines that hold its values."""
    held_out = ("held-out", ("validation", "final"))
    if key == "plan_mi":
        return (held_out,)
    return (("training", ("train",)), held_out) if key in ("nll", "bits_per_byte") else (("training", ("train",)),)


def _series(files: RunFiles, name: str, kinds: tuple[str, ...], key: str) -> Series:
    found = {line["step"]: line[key] for line in files.of_kind(*kinds) if isinstance(line.get(key), int | float)}
    return Series(name, tuple((step, float(value)) for step, value in _thinned(sorted(found.items()))))


def _thinned(items: Sequence[Item]) -> list[Item]:
    every = -(-len(items) // MOST_POINTS) or 1
    kept = list(items[::every])
    return kept if (len(items) - 1) % every == 0 or not items else [*kept, items[-1]]


def _differs(files: RunFiles) -> bool:
    """Whether the loss has more terms than the NLL."""
    return any(line.get("loss") != line.get("nll") for line in files.of_kind("train"))


def _references(files: RunFiles) -> tuple[tuple[str, float], ...]:
    found = files.final.get("references_bits_per_byte") or {}
    return tuple((name.replace("_", " "), float(value)) for name, value in found.items() if value is not None)


def _has_no_plan(key: str, series: Series) -> bool:
    """Whether these are the zeros that a model without plan states has in the place of its plan MI."""
    return key == "plan_mi" and all(value == 0 for _, value in series.points)
