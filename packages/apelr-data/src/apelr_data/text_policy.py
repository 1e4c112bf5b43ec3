"""What happens to odd text: a pure function that cleans one document and counts what it did.

In this order:

1. Bytes are read as UTF-8; each byte that is no part of it becomes U+FFFD (`invalid_bytes`).
2. NUL characters are removed (`nul_characters`).
3. Byte order marks (U+FEFF) at the start are removed (`byte_order_marks`).
4. CRLF and lone CR become LF (`carriage_returns`, one for each CR).
5. Lone surrogates become U+FFFD (`lone_surrogates`).
6. A document that is empty or white space alone is dropped (`dropped_empty`), and so is one of fewer than
   `min_chars` characters (`dropped_short`).

Nothing else is changed: no Unicode normal form, no stripping, no limit on the length of a line.
"""

import re
from dataclasses import dataclass, fields
from typing import NamedTuple

REPLACEMENT = "\ufffd"
_UNDECODED_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class TextReport:
    """Counts over documents; two reports add up."""

    documents: int = 0
    "Documents that were kept."
    characters: int = 0
    "Characters of the kept documents, after cleaning and caps."
    utf8_bytes: int = 0
    "UTF-8 bytes of the kept documents, after cleaning and caps."
    invalid_bytes: int = 0
    "Bytes that are no UTF-8 and became U+FFFD."
    nul_characters: int = 0
    "NUL characters removed."
    byte_order_marks: int = 0
    "Byte order marks removed from the start of a document."
    carriage_returns: int = 0
    "CRLF and lone CR that became LF."
    lone_surrogates: int = 0
    "Lone surrogates that became U+FFFD."
    dropped_empty: int = 0
    "Documents dropped because they were empty or white space alone."
    dropped_short: int = 0
    "Documents dropped because they were shorter than min_chars."

    def __add__(self, other: "TextReport") -> "TextReport":
        """The counts of both."""
        return TextReport(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        )


class CleanText(NamedTuple):
    """A cleaned document: its text, whether it is kept, and what was done to it."""

    text: str
    kept: bool
    report: TextReport


def decode_utf8(data: bytes) -> str:
    """Bytes -> text in which each undecodable byte is a surrogate U+DC80..U+DCFF, which `clean_text` counts."""
    return data.decode("utf-8", "surrogateescape")


def clean_text(raw: str | bytes, *, min_chars: int = 1) -> CleanText:
    """Clean one document by the policy of this module. In a `str`, U+DC80..U+DCFF count as invalid bytes."""
    text = decode_utf8(raw) if isinstance(raw, bytes) else raw
    nul_characters = text.count("\0")
    text = text.replace("\0", "")
    without_marks = text.lstrip("\ufeff")
    byte_order_marks = len(text) - len(without_marks)
    carriage_returns = without_marks.count("\r")
    text = without_marks.replace("\r\n", "\n").replace("\r", "\n")
    text, invalid_bytes = _UNDECODED_BYTE.subn(REPLACEMENT, text)
    text, lone_surrogates = _SURROGATE.subn(REPLACEMENT, text)
    empty = not text or text.isspace()
    short = not empty and len(text) < min_chars
    kept = not empty and not short
    report = TextReport(
        documents=int(kept),
        characters=len(text) if kept else 0,
        utf8_bytes=len(text.encode("utf-8")) if kept else 0,
        invalid_bytes=invalid_bytes,
        nul_characters=nul_characters,
        byte_order_marks=byte_order_marks,
        carriage_returns=carriage_returns,
        lone_surrogates=lone_surrogates,
        dropped_empty=int(empty),
        dropped_short=int(short),
    )
    return CleanText(text, kept, report)
