import io
import re

import pytest

from apelr_cli.plan_paint import PlanPaint, _style
from apelr_cli.plan_palette import PALETTE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


def test_a_terminal_gets_the_colour_behind_the_text_and_line_ends_outside() -> None:
    painted = PlanPaint(8, "auto", Terminal()).paint(3, "a\nb")
    assert re.fullmatch(r"\x1b\[30;48;5;\d+ma\x1b\[0m\n\x1b\[30;48;5;\d+mb\x1b\[0m", painted)


@pytest.mark.parametrize(
    ("variables", "color", "terminal", "coloured"),
    [
        ({}, "auto", True, True),
        ({}, "auto", False, False),
        ({"NO_COLOR": "1"}, "auto", True, False),
        ({"TERM": "dumb"}, "auto", True, False),
        ({"FORCE_COLOR": "1"}, "auto", False, True),
        ({"NO_COLOR": "1"}, "always", False, True),
        ({"TERM": "dumb"}, "always", False, True),
        ({}, "never", True, False),
    ],
)
def test_when_there_are_colours(
    plain_terminal: pytest.MonkeyPatch, variables: dict[str, str], color: str, terminal: bool, coloured: bool
) -> None:
    for name, value in variables.items():
        plain_terminal.setenv(name, value)
    paint = PlanPaint(8, color, Terminal() if terminal else io.StringIO())  # type: ignore[arg-type]
    assert ("\x1b" in paint.paint(0, "text")) == coloured
    assert paint.marks or coloured, "without colours the numbers stand in the text"


def test_numbers_stand_in_where_colours_do_not_tell_states_apart(plain_terminal: pytest.MonkeyPatch) -> None:
    assert not PlanPaint(len(PALETTE), "auto", Terminal()).marks
    assert PlanPaint(len(PALETTE) + 1, "auto", Terminal()).marks
    plain_terminal.setenv("TERM", "xterm")
    assert PlanPaint(2, "auto", Terminal()).marks, "16 colours are too few"
    assert PlanPaint(2, "never", Terminal()).label(1) == "[1]"


def test_text_has_the_contrast_that_wcag_asks_of_it() -> None:
    def luminance(colour: tuple[int, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for state, colour in enumerate(PALETTE):
        style = _style(state)
        assert style.bgcolor is not None
        assert style.bgcolor.name == colour
        background = luminance(tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
        text = {"black": 0.0, "white": 1.0}[style.color.name]  # type: ignore[union-attr]
        lighter, darker = max(background, text), min(background, text)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5
