"""Values as they appear in messages: what the user typed, or what YAML would say."""

import json
from collections.abc import Mapping

__all__ = ["Plain", "is_null", "shown"]

LONGEST = 80
NULL_WORDS = ("", "~", "null", "Null", "NULL")


class Plain(str):
    """A YAML scalar without quotes, whose declared type decides what it is. A quoted one is a `str`."""

    __slots__ = ()


def is_null(raw: object) -> bool:
    """Whether a raw value is None, or without quotes nothing, `~` or `null`."""
    return raw is None or (isinstance(raw, Plain) and raw in NULL_WORDS)


def shown(value: object) -> str:
    """`value` on one line in YAML's words (true, null, [a, b]), cut when long; plain text as it was typed."""
    text = _whole(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _whole(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_whole(key)}: {_whole(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_whole, value)) + "]"
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _text(value: str) -> str:
    if isinstance(value, Plain):
        return value or "nothing"
    ordinary = value.isprintable() and value == value.strip() and value not in NULL_WORDS
    return value if ordinary else json.dumps(value)
