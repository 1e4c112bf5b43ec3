"""Curves and bands over training steps as SVG."""

import math
from collections.abc import Callable, Iterable, Iterator

from markupsafe import Markup

from apelr_cli.report.curves import Chart, UsageChart
from apelr_cli.report.svg import compact, element, nice_ticks, picture, tag

__all__ = ["line_chart", "step_label", "usage_bands"]

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
HEADROOM = 0.06
"""Of the values' range, free above and below."""
FROM_ZERO = ("learning_rate", "tokens_per_second", "plan_mi", "overlap")

Scale = Callable[[float], float]


def line_chart(chart: Chart) -> Markup:
    """All series and levels of a chart; the series have the classes line0, line1, … in their order."""
    steps = [step for each in chart.series for step, _ in each.points]
    low, high = _range(chart)
    x, y = _scale(min(steps), max(steps), LEFT, WIDTH - RIGHT), _scale(low, high, HEIGHT - BOTTOM, TOP)
    ticks = nice_ticks(low, high)
    if chart.is_logarithmic:
        y, ticks = _log_scale(low, high, HEIGHT - BOTTOM, TOP), _log_ticks(low, high)
    content = [*_axes(x, y, (min(steps), max(steps)), ticks)]
    for number, (name, value) in enumerate(sorted(chart.levels, key=lambda level: level[1])):
        content.append(tag("line", class_="level", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value)))
        x_name = LEFT + 4 + 90 * (number % 3)  # beside each other: levels may be close
        content.append(element("text", name, class_="level-name", x=x_name, y=y(value) - 4))
    for number, each in enumerate(chart.series):
        points = [(x(step), y(value)) for step, value in each.points]
        content.append(tag("path", class_=f"line line{number % 8}", d=_path(points)))
        if len(points) == 1:
            content.append(tag("circle", class_=f"dot line{number % 8}", cx=points[0][0], cy=points[0][1], r=3))
    content.append(tag("line", class_="cursor", x1=LEFT, x2=LEFT, y1=TOP, y2=HEIGHT - BOTTOM))
    return picture(WIDTH, HEIGHT, content, label=_described(chart), class_="chart")


def usage_bands(usage: UsageChart) -> Markup:
    """Shares of the plan states, stacked; each state's band has the class s<state mod 8>."""
    first, last = usage.steps[0], usage.steps[-1]
    x, y = _scale(first, last, LEFT, WIDTH - RIGHT), _scale(0, 1, HEIGHT - BOTTOM, TOP)
    content = [*_axes(x, y, (first, last), nice_ticks(0, 1))]
    below = [0.0] * len(usage.steps)
    for state, shares in zip(usage.bands, usage.shares, strict=True):
        above = [low + share for low, share in zip(below, shares, strict=True)]
        top = [(x(step), y(min(1.0, value))) for step, value in zip(usage.steps, above, strict=True)]
        bottom = [(x(step), y(min(1.0, value))) for step, value in zip(usage.steps, below, strict=True)]
        area = _path([*top, *bottom[::-1]]) + "z"
        name = "all other states" if state is None else f"state {state}"
        title = element("title", f"{name}: {shares[-1]:.1%} at step {last}")
        content.append(
            element("path", [title], class_="fill " + ("rest" if state is None else f"s{state % 8}"), d=area)
            if state is None
            else element("path", [title], class_=f"fill s{state % 8}", d=area, data_state=state)
        )
        below = above
    label = f"Usage of plan states over steps {first} to {last}, as shares of the training text"
    return picture(WIDTH, HEIGHT, content, label=label, class_="chart")


def step_label(value: float) -> str:
    """A tick's number in few characters."""
    if value and abs(value) < 0.01:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _axes(x: Scale, y: Scale, steps: tuple[float, float], values: Iterable[float]) -> Iterator[Markup]:
    for value in values:
        yield tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value))
        yield element("text", step_label(value), class_="tick y", x=LEFT - 6, y=y(value) + 4)
    for value in filter(float.is_integer, map(float, nice_ticks(*steps))):
        yield element("text", step_label(value), class_="tick x", x=x(value), y=HEIGHT - 10)


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    span = high - low
    return lambda value: start + (end - start) * ((value - low) / span if span else 0.5)


def _log_scale(low: float, high: float, start: float, end: float) -> Scale:
    scale = _scale(math.log(low), math.log(high), start, end)
    return lambda value: scale(math.log(value))


def _range(chart: Chart) -> tuple[float, float]:
    """The lowest and the highest value that are drawn, with some room."""
    low, high = min(chart.values), max(chart.values)
    if chart.is_logarithmic:
        room = (high / low) ** HEADROOM if high > low else 1.1
        return low / room, high * room
    room = (high - low or abs(high) or 1.0) * HEADROOM
    return (0.0 if low >= 0 and chart.key in FROM_ZERO else low - room), high + room


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis; where the axis is short, as on a linear one."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 3, 5) if low <= factor * 10.0**power <= high]
    return found if len(found) >= 3 else nice_ticks(low, high)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{compact(round(px, 1))} {compact(round(py, 1))}" for px, py in points)


def _described(chart: Chart) -> str:
    """The chart in words: where each line begins and ends."""
    ends = [
        f"{each.name} from {_words(each.points[0][1])} at step {each.points[0][0]} "
        f"to {_words(each.points[-1][1])} at step {each.points[-1][0]}"
        for each in chart.series
    ]
    return f"{chart.title}: {'; '.join(ends)}"


def _words(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "infinity"
