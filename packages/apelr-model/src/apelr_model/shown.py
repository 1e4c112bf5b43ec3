"""Values of a file, made fit for a line of an error message: short, printable, whatever the file holds."""

import reprlib
from collections.abc import Iterable

__all__ = ["one_line", "shown", "shown_names"]

LONGEST = 80
"""Characters of a value or name that are shown."""
MOST_NAMES = 8
"""Names that are shown; the rest are counted."""


def shown(value: object) -> str:
    """The value's repr on one line. A list that holds itself a million times over costs no more than a short one."""
    return _short(reprlib.repr(value))


def shown_names(names: Iterable[object]) -> str:
    """The names, sorted and separated by commas; from the ninth on they are only counted."""
    texts = sorted(_short(name) if isinstance(name, str) and name.isprintable() else shown(name) for name in names)
    more = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return ", ".join(texts[:MOST_NAMES]) + more


def one_line(text: str) -> str:
    """The first line of another program's message, printable and of bounded length."""
    first = next((line for line in text.splitlines() if line.strip()), "").strip()[:200]
    return first if first.isprintable() else repr(first)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
