"""The curves of the group growth as a picture: each value beside that of the smallest size, both axes logarithmic."""

import math
from pathlib import Path

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks_growth.svg"
TITLES = {"step": "time of a step", "filter": "time of the filter", "memory": "memory of a step"}
COLOURS = {"B": "#4477aa", "T": "#228833", "K": "#ee6677", "V": "#aa3377", "L": "#ccbb44"}
SIDE, MARGIN, TOP = 220, 44, 30
DECADES = 2.0
"""Both axes go from 1 to 10 ** DECADES; what grows more is cut."""


def picture(points: dict[str, list[list[float]]]) -> str:
    """An SVG with a panel for each kind of curve; names are `kind, axis`."""
    panels = [panel(kind, points, MARGIN + n * (SIDE + MARGIN)) for n, kind in enumerate(TITLES)]
    width, height = MARGIN + len(TITLES) * (SIDE + MARGIN), TOP + SIDE + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = 'font-family="sans-serif" font-size="11" fill="none" stroke-width="1.5"'
    return "\n".join(
        [f"{head} {style}>", f'<rect width="{width}" height="{height}" fill="white"/>', *panels, "</svg>\n"]
    )


def panel(kind: str, points: dict[str, list[list[float]]], left: float) -> str:
    """One panel, with thin lines of slope 1 and 2."""
    bottom = TOP + SIDE
    parts = [text(left, TOP - 12, f"{TITLES[kind]}, times that of the smallest size")]
    for decade in range(int(DECADES) + 1):
        x, y = place(10**decade, 10**decade, left)
        parts += [text(x - 4, bottom + 14, 10**decade), text(left - 24, y + 4, 10**decade)]
        parts.append(f'<path stroke="#ddd" d="M{x:.1f} {TOP}V{bottom}M{left} {y:.1f}H{left + SIDE}"/>')
    for power in (1, 2):
        end = place(10 ** (DECADES / power), 10**DECADES, left)
        parts.append(f'<path stroke="#bbb" stroke-dasharray="3 3" d="M{left} {bottom}L{end[0]:.1f} {end[1]:.1f}"/>')
    curves = {name.split(", ")[1]: curve for name, curve in points.items() if name.startswith(f"{kind}, ")}
    for row, (axis, curve) in enumerate(curves.items()):
        first = curve[0]
        spots = [place(size / first[0], max(1.0, value / first[1]), left) for size, value in curve]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path stroke="{COLOURS[axis]}" d="M{line}"/>')
        parts.append(text(left + 8, TOP + 14 + 13 * row, axis, COLOURS[axis]))
    return "\n".join(parts)


def place(x: float, y: float, left: float) -> tuple[float, float]:
    """Where a point of both axes lies; what lies beyond them is put on their ends."""
    across, up = (min(DECADES, math.log10(value)) / DECADES * SIDE for value in (x, y))
    return left + across, TOP + SIDE - up


def text(x: float, y: float, content: object, colour: str = "#333") -> str:
    """Words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{content}</text>'
