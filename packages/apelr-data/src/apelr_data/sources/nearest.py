"""What there is instead of a name that is not there, the nearest first."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 12


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """The known names, the most like `name` first, equally like ones in their own order."""
    likeness = {each: difflib.SequenceMatcher(None, name.casefold(), each.casefold()).ratio() for each in known}
    return sorted(likeness, key=lambda each: -likeness[each])


def listed(names: list[str]) -> str:
    """Names for a message: the first `MOST_NAMES`, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "(none)") + more
