"""Text in the colours of plan states: when a terminal has colours, and when numbers must stand in for them."""

from typing import Literal, TextIO

from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style

from apelr_cli.plan_palette import PALETTE, state_colour

__all__ = ["ColorChoice", "PlanPaint"]

ColorChoice = Literal["auto", "always", "never"]

SYSTEMS = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}


class PlanPaint:
    """Gives text the colour of a plan state as its background, in black or white, whichever is easier to read.

    `auto` colours terminals, unless NO_COLOR is set or TERM is dumb (and, with FORCE_COLOR, everything). `marks` says
    whether the colours do not tell the states apart: none, too few of them, or more states than colours.
    """

    def __init__(self, num_plan_states: int, color: ColorChoice, stream: TextIO) -> None:
        self._system = _color_system(color, stream)
        few = self._system in (None, ColorSystem.STANDARD)
        self.marks = few or num_plan_states > len(PALETTE)

    def paint(self, state: int, text: str) -> str:
        """`text` in the colour of the state; line ends stay outside, so that none fills a line's rest."""
        style = _style(state)
        lines = [style.render(part, color_system=self._system) for part in text.split("\n")]
        return "\n".join(lines)

    def label(self, state: int) -> str:
        """`[3]` in the colour of state 3."""
        return self.paint(state, f"[{state}]")


def _color_system(color: ColorChoice, stream: TextIO) -> ColorSystem | None:
    if color == "never":
        return None
    console = Console(file=stream, force_terminal=True if color == "always" else None)
    found = SYSTEMS.get(console.color_system or "")
    if color == "always":
        return found or ColorSystem.STANDARD
    return None if console.no_color else found


def _style(state: int) -> Style:
    colour = state_colour(state)
    return Style(bgcolor=colour, color="black" if _luminance(colour) > BLACK_FROM else "white")


BLACK_FROM = 0.179
"""The relative luminance from which black text has more contrast than white: (L + 0.05)^2 > 1.05 * 0.05."""


def _luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [each / 255 for each in Color.parse(colour).get_truecolor()]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
