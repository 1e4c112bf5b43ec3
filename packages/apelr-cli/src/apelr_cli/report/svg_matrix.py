"""A matrix as a heat map, a list of changes as bars, and beliefs along a text as strips."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from apelr_cli.report.svg import band, element, picture, tag

__all__ = ["bars", "belief_strip", "heat_map", "plan_strip"]

CELL, EDGE = 30, 34
NUMBERED = 12
"""Rows up to which each cell shows its number."""
LEVELS = 10
"""Shades of a cell; the classes h0 ... h10 of the style sheet."""
MAGNIFIED = 1.45
"""Pixels to a unit on a wide page."""
FAINTEST = 0.005
"""Share of a belief that is still drawn."""

Row = Sequence[float]


def heat_map(
    values: Sequence[Row],
    rows: Sequence[int],
    columns: Sequence[int],
    *,
    label: str,
    of: str = "{row} to {column}: {value:.3f}",
    largest: float | None = None,
    framed: Mapping[int, int] | None = None,
) -> Markup:
    """values[row][column] of the given rows and columns; `framed` cells (column by row) have a frame.

    `of` says a cell in words; `largest` is the value of the darkest shade.
    """
    top = max((values[i][j] for i in rows for j in columns), default=0.0) if largest is None else largest
    content = []
    for line, i in enumerate(rows):
        y = EDGE + line * CELL
        content.append(element("text", str(i), class_="tick row", x=EDGE - 8, y=y + CELL / 2 + 4))
        for place, j in enumerate(columns):
            x, share = EDGE + place * CELL, min(1.0, values[i][j] / top) if top > 0 else 0.0
            level = round(share * LEVELS)
            parts = [
                element("title", of.format(row=i, column=j, value=values[i][j])),
                tag("rect", x=x + 1, y=y + 1, width=CELL - 2, height=CELL - 2, rx=3, class_=f"h{level}"),
            ]
            if framed is not None and framed.get(i) == j:
                parts.append(tag("rect", x=x + 1, y=y + 1, width=CELL - 2, height=CELL - 2, rx=3, class_="frame"))
            if max(len(rows), len(columns)) <= NUMBERED:
                words = _few(values[i][j], top)
                parts.append(element("text", words, class_=f"number n{level}", x=x + CELL / 2, y=y + CELL / 2 + 4))
            content.append(element("g", parts, data_row=i, data_column=j, class_="cell"))
    for place, j in enumerate(columns):
        content.append(element("text", str(j), class_="tick column", x=EDGE + (place + 0.5) * CELL, y=EDGE - 10))
    width, height = EDGE + len(columns) * CELL + 2, EDGE + len(rows) * CELL + 2
    size = "matrix" if len(columns) <= NUMBERED else "matrix big"
    return picture(width, height, content, label=label, class_=size, shown_width=min(MAGNIFIED * width, 760.0))


def _few(value: float, largest: float) -> str:
    """A number in few characters: two decimals, or three where the largest one is small."""
    words = f"{value:.2f}" if largest >= 0.2 else f"{value:.3f}"
    return words.removeprefix("0") if len(words) < 6 and value < 99.5 else f"{value:.0f}"


def bars(values: Sequence[tuple[str, float]], *, label: str) -> Markup:
    """Signed values, one under the other: those above 0 to the right."""
    width, line, middle = 360, 44, 120 if any(value < 0 for _, value in values) else 8
    largest = max((abs(value) for _, value in values), default=0.0) or 1.0
    content = [tag("line", class_="zero", x1=middle, x2=middle, y1=0, y2=len(values) * line)] if middle > 8 else []
    for number, (name, value) in enumerate(values):
        size = max(1.0, abs(value) / largest * (width - middle - 84 if value >= 0 else middle - 8))
        x, y = middle if value >= 0 else middle - size, number * line
        content.append(element("text", name, class_="bar-name", x=8, y=y + 15))
        content.append(
            tag("rect", class_="bar" if value >= 0 else "bar minus", x=x, y=y + 21, width=size, height=13, rx=2)
        )
        content.append(element("text", f"{value:+.4f}", class_="bar-value", x=max(x + size, middle) + 6, y=y + 32))
    return picture(width, len(values) * line + 4, content, label=label, class_="bars")


def belief_strip(beliefs: Sequence[Row | None], *, label: str) -> Markup:
    """beliefs [T] of [K] probabilities (None: nothing) -> a strip of T columns, each stacked by state."""
    paths: dict[int, list[str]] = {}
    start = 0
    for place in range(1, len(beliefs) + 1):
        if place < len(beliefs) and beliefs[place] == beliefs[start]:
            continue
        top = 0.0
        for state, share in enumerate(beliefs[start] or ()):
            if share >= FAINTEST:
                paths.setdefault(state, []).append(band(start, round(top, 3), place - start, round(share, 3)))
            top += share
        start = place
    content = [
        tag("path", class_=f"fill s{state % 8}", data_state=state, d="".join(parts))
        for state, parts in sorted(paths.items())
    ]
    return picture(len(beliefs), 1, content, label=label, class_="strip", fill=True)


def plan_strip(plans: Sequence[int], names: Sequence[str], states: Mapping[int, int], *, label: str) -> Markup:
    """plans [T] (-1: none) -> a strip of T columns; each known plan has the colour of the state it is matched with."""
    content = []
    start = 0
    for place in range(1, len(plans) + 1):
        if place < len(plans) and plans[place] == plans[start]:
            continue
        plan = plans[start]
        if plan >= 0:
            state = states.get(plan)
            parts = [element("title", names[plan])]
            class_ = "fill rest" if state is None else f"fill s{state % 8}"
            path = band(start, 0, place - start, 1)
            content.append(element("path", parts, class_=class_, data_state=state, d=path))
        start = place
    return picture(len(plans), 1, content, label=label, class_="strip", fill=True)
