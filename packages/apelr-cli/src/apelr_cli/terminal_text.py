"""Text of models and of users as a terminal may be given it."""

import json
from typing import TextIO

__all__ = ["for_terminal", "is_terminal", "quoted", "visible"]

CONTROLS = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
"""C0, DEL and C1: what a terminal obeys, but for line ends and tabs."""
DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Embeddings, overrides and isolates, which let text be shown in another order than it has."""
ESCAPES = {**{code: f"\\x{code:02x}" for code in CONTROLS}, **{code: f"\\u{code:04x}" for code in DIRECTIONS}}
ESCAPES[ord("\r")] = "\\r"


def visible(text: str) -> str:
    r"""`text` with every control character written out (`\x1b`, `\r`, `\u202e`), but for line ends and tabs."""
    return text.translate(ESCAPES)


def quoted(text: str) -> str:
    """`text` in JSON's quotes on one line, letters as they are, every control character written out."""
    return visible(json.dumps(text, ensure_ascii=False))


def is_terminal(stream: TextIO) -> bool:
    """Whether what is written there is shown to somebody."""
    return not stream.closed and stream.isatty()


def for_terminal(text: str, stream: TextIO) -> str:
    """`text` as it is, and on a terminal `visible`."""
    return visible(text) if is_terminal(stream) else text
