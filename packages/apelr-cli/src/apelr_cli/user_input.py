"""Reading what the user gives: text from a file or standard input, and lists of ids."""

import json
import sys
from collections import Counter
from pathlib import Path

import click

from apelr_tokenizers import Encoding, Tokenizer

__all__ = ["InputError", "decode_utf8", "read_ids", "read_standard_input", "read_text", "warn_of_unknown"]

BYTE_ORDER_MARK = "\ufeff"
NAMED_CHARACTERS = 10
"""Unknown characters that a warning names; the rest are counted only."""


class InputError(ValueError):
    """An input that cannot be used; the message is one line that says where and why."""


def decode_utf8(content: bytes, source: str) -> str:
    """The text of `content`, exactly as it is but for a leading byte order mark, which is left out.

    Raises InputError, naming `source` and the offset of the first byte that is no UTF-8.
    """
    try:
        return content.decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; save it as UTF-8"
        ) from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, line ends as they are. Raises InputError."""
    return decode_utf8(_read_bytes(path), str(path))


def read_standard_input() -> str | None:
    """All of standard input as text, line ends as they are; None where it is a terminal or not there.

    Raises InputError where it is no UTF-8.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    return decode_utf8(sys.stdin.buffer.read(), "standard input")


def read_ids(path: Path, vocab_size: int) -> list[int]:
    """The token ids of a file that holds one JSON list of two or more integers in 0 ... vocab_size - 1.

    Raises InputError, naming the first entry that is wrong.
    """
    try:
        content = json.loads(decode_utf8(_read_bytes(path), str(path)))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, list):
        raise InputError(f"{path} must hold a JSON list of ids, got {_kind(content)}")
    for index, value in enumerate(content):
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{path} must hold integers, got {_kind(value)} at index {index}")
        if not 0 <= value < vocab_size:
            raise InputError(f"{path} must hold ids in 0 .. {vocab_size - 1}, got {value} at index {index}")
    if len(content) < 2:
        raise InputError(f"{path} must hold at least 2 ids (one to read, one to predict), got {len(content)}")
    return content


def warn_of_unknown(tokenizer: Tokenizer, text: str, encoding: Encoding) -> None:
    """Say on standard error, in one line, which characters of `text` the tokenizer does not know; else nothing."""
    if not encoding.unknown:
        return
    counts = Counter(text)
    characters = list(counts)
    unknown = [c for c, alone in zip(characters, tokenizer.encode_batch(characters), strict=True) if alone.unknown]
    if sum(map(counts.__getitem__, unknown)) != encoding.unknown:  # what is known depends on the characters around
        unknown = []
    named = ", ".join(f"{c!r} ({counts[c]})" for c in unknown[:NAMED_CHARACTERS])
    more = f" and {len(unknown) - NAMED_CHARACTERS} others" if len(unknown) > NAMED_CHARACTERS else ""
    which = f": {named}{more}" if named else ""
    plural = "character is" if encoding.unknown == 1 else "characters are"
    click.echo(f"Warning: {encoding.unknown} {plural} unknown to the tokenizer and read as <unk>{which}", err=True)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {str(value)[:40]}")
