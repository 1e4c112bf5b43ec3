"""The transition matrix as a graph: states on a circle, arrows where the plan is likely to go."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from apelr_cli.report.svg import element, picture, tag

__all__ = ["MOST_NODES", "transition_graph", "walk_order"]

MOST_NODES = 16
SIZE, RADIUS = 400, 132
ABOVE_EVEN = 1.5
"""Share of the moves out of a state, in even shares, from which on a move has an arrow; the likeliest always has."""


def walk_order(states: Sequence[int], transition: Sequence[Sequence[float]], first: int) -> list[int]:
    """The states in the order in which the likeliest moves lead from `first` on, so that neighbours are near."""
    left, order = [state for state in states if state != first], [first]
    while left:
        order.append(max(left, key=lambda state: transition[order[-1]][state]))
        left.remove(order[-1])
    return order


def transition_graph(
    order: Sequence[int], transition: Sequence[Sequence[float]], usage: Mapping[int, float], names: Mapping[int, str]
) -> Markup:
    """States in this order round a circle; `usage` gives their sizes, `names` a second line under the number.

    The ring round a state is full where the plan always stays; an arrow's width is its share of the moves that leave.
    """
    places = {state: _place(number, len(order)) for number, state in enumerate(order)}
    largest = max((usage.get(state, 0.0) for state in order), default=0.0) or 1.0
    radii = {state: 9 + 13 * math.sqrt(usage.get(state, 0.0) / largest) for state in order}
    arrows = [
        _arrow(places[i], places[j], radii[i] + 7, radii[j] + 9, share, (i, j))
        for i in order
        for j, share in _likely_moves(i, order, transition[i])
    ]
    nodes = [_node(state, places[state], radii[state], transition[state][state], names) for state in order]
    head = element(
        "marker",
        [tag("path", d="M0 0L6 3L0 6z", class_="head")],
        id="arrow",
        refX=5,
        refY=3,
        markerWidth=6,
        markerHeight=6,
        orient="auto",
        markerUnits="userSpaceOnUse",
    )
    label = "Plan states and the likeliest moves between them; the heat map has all of them"
    return picture(SIZE, SIZE, [element("defs", [head]), *arrows, *nodes], label=label, class_="graph")


def _likely_moves(state: int, order: Sequence[int], row: Sequence[float]) -> list[tuple[int, float]]:
    """(state, share of the moves that leave) of the moves that are drawn."""
    others = [other for other in order if other != state]
    leaving = 1 - row[state]
    if not others or leaving <= 0:
        return []
    least = min(ABOVE_EVEN * leaving / max(1, len(row) - 1), max(row[other] for other in others))
    return [(other, row[other] / leaving) for other in others if row[other] >= least]


def _place(number: int, count: int) -> tuple[float, float]:
    angle = 2 * math.pi * number / count - math.pi / 2
    return SIZE / 2 + RADIUS * math.cos(angle), SIZE / 2 + RADIUS * math.sin(angle)


def _arrow(
    start: tuple[float, float], end: tuple[float, float], off: float, short: float, share: float, move: tuple[int, int]
) -> Markup:
    """A bow to the left of the straight line, so that the way back is another bow."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    ux, uy = dx / length, dy / length
    bend = 0.12 * length
    middle = ((start[0] + end[0]) / 2 + uy * bend, (start[1] + end[1]) / 2 - ux * bend)
    first, last = _towards(start, middle, off), _towards(end, middle, short)
    title = element("title", f"from state {move[0]} to state {move[1]}: {share:.0%} of the moves that leave it")
    path = f"M{first[0]:.1f} {first[1]:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {last[0]:.1f} {last[1]:.1f}"
    return element(
        "path",
        [title],
        class_="move",
        d=path,
        stroke_width=1 + 5 * share,
        marker_end="url(#arrow)",
        data_row=move[0],
        data_column=move[1],
    )


def _towards(start: tuple[float, float], end: tuple[float, float], by: float) -> tuple[float, float]:
    length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    return start[0] + (end[0] - start[0]) / length * by, start[1] + (end[1] - start[1]) / length * by


def _node(state: int, place: tuple[float, float], radius: float, stays: float, names: Mapping[int, str]) -> Markup:
    x, y = place
    ring = 2 * math.pi * (radius + 4)
    name = names.get(state, "")
    title = element("title", f"state {state}{f', {name}' if name else ''}: stays with probability {stays:.3f}")
    dash = f"{ring * stays:.1f} {ring:.1f}"
    turned = f"rotate(-90 {x:.1f} {y:.1f})"
    out = 1 + (radius + 17) / RADIUS
    at = SIZE / 2 + (x - SIZE / 2) * out, SIZE / 2 + (y - SIZE / 2) * out
    anchor = "middle" if abs(x - SIZE / 2) < 30 else "start" if x > SIZE / 2 else "end"
    parts = [
        title,
        tag("circle", class_="track", cx=x, cy=y, r=radius + 4),
        tag("circle", class_=f"ring s{state % 8}", cx=x, cy=y, r=radius + 4, stroke_dasharray=dash, transform=turned),
        tag("circle", class_=f"fill s{state % 8}", cx=x, cy=y, r=radius),
        element("text", str(state), class_=f"node on{state % 8}", x=x, y=y + 5),
    ]
    if name:
        parts.append(element("text", name, class_="node-name", x=at[0], y=at[1] + 4, text_anchor=anchor))
    return element("g", parts, data_state=state, class_="state-node")
