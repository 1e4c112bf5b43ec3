"""SVG by small functions: elements with escaped text, scales and ticks. Colours are classes of the style sheet."""

import math
from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["band", "compact", "element", "nice_ticks", "picture", "tag"]

Value = str | int | float | None


def element(name: str, content: Iterable[Markup | str] | Markup | str = "", **attributes: Value) -> Markup:
    """An element; text in it, and the values of attributes, are escaped.

    Attributes lose a trailing underscore, other underscores become hyphens, floats have two decimals, None is left out.
    """
    parts = [content] if isinstance(content, str) else content
    inner = Markup("").join(escape(part) for part in parts)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), _attributes(attributes), inner)


def tag(name: str, **attributes: Value) -> Markup:
    """An element without content."""
    return Markup("<{}{}/>").format(Markup(name), _attributes(attributes))


def picture(
    width: float,
    height: float,
    content: Iterable[Markup | str],
    *,
    label: str,
    class_: str,
    fill: bool = False,
    shown_width: float | None = None,
) -> Markup:
    """A whole picture with its label for those who cannot see it; with `fill` it is stretched to the place it gets.

    `shown_width` is its width on a wide page, in pixels; None leaves that to the style sheet.
    """
    return element(
        "svg",
        content,
        class_=class_,
        viewBox=f"0 0 {compact(width)} {compact(height)}",
        preserveAspectRatio="none" if fill else None,
        width=shown_width,
        role="img",
        aria_label=label,
    )


def band(x: float, y: float, width: float, height: float) -> str:
    """A rectangle as a part of a path."""
    return f"M{compact(x)} {compact(y)}h{compact(width)}v{compact(height)}h{compact(-width)}z"


def compact(value: float) -> str:
    """A coordinate in few characters."""
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`; the one number where they are equal."""
    if low == high:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _attributes(attributes: dict[str, Value]) -> Markup:
    words = [
        Markup(' {}="{}"').format(
            Markup(name.rstrip("_").replace("_", "-")),
            compact(value) if isinstance(value, float) else value,
        )
        for name, value in attributes.items()
        if value is not None
    ]
    return Markup("").join(words)
