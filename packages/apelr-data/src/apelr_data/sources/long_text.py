"""Plain files of any size: a small one is one document, a large one is read and given in parts."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from apelr_data.config import Split
from apelr_data.sources.files import open_bytes
from apelr_data.splits import cut_tail
from apelr_data.text_policy import decode_utf8

PART_BYTES = 1 << 23
"""The largest file, in bytes, that is one document; of a larger one each part is a document."""
_BORDERS = (b"\n\n", b"\n", b"\r", b" ")


def read_parts(path: Path) -> Iterator[str]:
    """The text of a plain file, undecodable bytes as surrogates U+DC80..U+DCFF, in parts that join to it.

    A part has at most `PART_BYTES` bytes. It ends after a blank line, else after a line end or a space, where there
    is one in its second half. No more than one part is held. Raises DataError when the file cannot be read.
    """
    with open_bytes(path) as stream:
        for part in _parts(stream):
            yield decode_utf8(part)


def read_split(path: Path, split: Split, val_fraction: float) -> Iterator[str]:
    """The parts of a plain file that belong to one split: its end is held out.

    Of a file of one part, `cut_tail` finds the place. Of a larger one the part in which the wanted byte lies is cut so.
    """
    with open_bytes(path) as stream:
        size = sum(len(part) for part in _parts(stream))
    wanted = size * (1 - val_fraction)
    with open_bytes(path) as stream:
        start = 0
        for part in _parts(stream):
            text, end = decode_utf8(part), start + len(part)
            if start < wanted < end or size <= PART_BYTES:
                train, validation = cut_tail(text, val_fraction if size <= PART_BYTES else (end - wanted) / len(part))
                yield train if split == "train" else validation
            elif (end <= wanted) == (split == "train"):
                yield text
            start = end


def _parts(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a stream in parts; of an empty one an empty part."""
    rest = b""
    while True:
        block = rest + _read(stream, PART_BYTES + 1 - len(rest))
        if len(block) <= PART_BYTES:
            yield block
            return
        cut = _place_to_cut(block[:PART_BYTES])
        yield block[:cut]
        rest = block[cut:]


def _read(stream: IO[bytes], size: int) -> bytes:
    """As many bytes as are wanted, fewer only at the end."""
    pieces = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _place_to_cut(block: bytes) -> int:
    """Behind the last border in the second half, else at the beginning of the last character."""
    for border in _BORDERS:
        found = block.rfind(border, len(block) // 2)
        if found >= 0:
            return found + len(border)
    cut = len(block)
    while cut > len(block) - 4 and block[cut - 1] & 0xC0 == 0x80:  # inside a character of several bytes
        cut -= 1
    return cut - 1 if block[cut - 1] >= 0xC0 else len(block)
