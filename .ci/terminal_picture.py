"""A picture of what a command shows on a terminal, colours included: standard input -> an SVG file.

    apelr sample … --show-plan --color always | python .ci/terminal_picture.py plan.svg

rich draws it; the fonts that it would fetch from the network are left out, so that the picture asks for nothing.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

WIDTH = 110


def picture(printed: str, title: str) -> str:
    """The SVG of a terminal that shows `printed`, ANSI colours read, lines wrapped at WIDTH columns."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(printed))
    drawn = console.export_svg(title=title, theme=DEFAULT_TERMINAL_THEME, unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.stdin.read(), "apelr sample --show-plan"), encoding="utf-8")
