"""Documents -> one stream of ids: BOS document EOS BOS document EOS …"""

import hashlib
import re
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from apelr_data.errors import DataError
from apelr_tokenizers import Encoding, Tokenizer

BATCH_CHARS = 1 << 18
BATCH_PIECES = 1024
PIECE_CHARS = 1 << 18
ENCODED_AHEAD = 3
"""Batches that are encoded while the one before them is packed: the tokenizer's library leaves Python to others."""
_LINE_START = re.compile(r"\n(?=\S)")
_WORD_END = re.compile(r"(?<=\S)(?= \S)")


class TokenArray(Protocol):
    """What rows ask of ids and byte counts: one dimension, unsigned integers; in memory or in files."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds every value."""
        ...

    def __len__(self) -> int:
        """The number of values."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """The values at an array of positions, or in a slice, as an array in memory."""
        ...


@dataclass(frozen=True, eq=False)
class TokenStream:
    """A split as ids, in the order of its documents."""

    ids: TokenArray
    "Ids [N] in the smallest unsigned type that holds the vocabulary."
    byte_counts: TokenArray
    "UTF-8 bytes of the cleaned text that each id accounts for [N], in the smallest unsigned type; 0 for BOS and EOS."
    documents: int
    "Documents begun in the stream; a cap on the ids may have cut the last one."
    text_bytes: int
    "The sum of byte_counts; without a cap, exactly the UTF-8 bytes of all documents."
    unknown: int
    "Characters that became the unknown id; of a document cut by a cap, its unknown ids."
    pad_id: int = 0
    "The id that fills rows up; it accounts for no bytes."
    bos_id: int = 1
    "The id that begins each document."
    sha256: str = ""
    "SHA-256 (hex) of the ids as little-endian integers of their type."


class PackedPart(NamedTuple):
    """A piece of a stream: as many ids as byte counts."""

    ids: np.ndarray
    byte_counts: np.ndarray


class _Piece(NamedTuple):
    """A document, or a part of a long one."""

    text: str
    first: bool
    last: bool


def smallest_unsigned(largest: int) -> np.dtype[Any]:
    """The smallest little-endian unsigned integer type that holds `largest`, of 1, 2 or 4 bytes."""
    return np.dtype("u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4")


def split_long_text(text: str) -> Iterator[str]:
    """Parts of at most `PIECE_CHARS` characters that join to `text`.

    A part ends after a line end that a line follows, else before a single space, where tokenizers end a word too,
    and only in text without either between any two characters.
    """
    start = 0
    while len(text) - start > PIECE_CHARS:
        limit = start + PIECE_CHARS
        middle = start + PIECE_CHARS // 2
        ends = [match.end() for match in _LINE_START.finditer(text, middle, limit)]
        if not ends:
            ends = [match.end() for match in _WORD_END.finditer(text, middle, limit)]
        cut = ends[-1] if ends else limit
        yield text[start:cut]
        start = cut
    yield text[start:]


def _batches(documents: Iterable[str]) -> Iterator[list[_Piece]]:
    """Pieces in lists that stay below `BATCH_PIECES` and about `BATCH_CHARS` characters."""
    batch: list[_Piece] = []
    chars = 0
    for document in documents:
        parts = list(split_long_text(document))
        for index, part in enumerate(parts):
            batch.append(_Piece(part, index == 0, index == len(parts) - 1))
            chars += len(part)
            if chars >= BATCH_CHARS or len(batch) >= BATCH_PIECES:
                yield batch
                batch, chars = [], 0
    if batch:
        yield batch


def pack_documents(documents: Iterable[str], tokenizer: Tokenizer, *, max_tokens: int | None = None) -> TokenStream:
    """Encode documents into one stream in memory with BOS and EOS at each one's ends; stop after `max_tokens` ids.

    Documents are read as they are needed, encoded in batches of bounded size, and very long ones in parts. Without
    a cap the byte counts sum to the UTF-8 bytes of the documents as given, that is as cleaned. Raises DataError
    for a cap below 1 or when there is no document.
    """
    packer = DocumentPacker(tokenizer, max_tokens=max_tokens)
    ids: list[np.ndarray] = []
    byte_counts: list[np.ndarray] = []
    for part in packer.parts(documents):
        ids.append(part.ids)
        byte_counts.append(part.byte_counts)
    all_ids = np.concatenate(ids)
    ids.clear()  # frees one copy before the next is made
    return packer.stream(all_ids, np.concatenate(byte_counts))


class DocumentPacker:
    """Encodes documents batch by batch; holds a few batches at most, and counts what it has given out."""

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int | None = None) -> None:
        """Raises DataError for a cap on the ids below 1."""
        if max_tokens is not None and max_tokens < 1:
            raise DataError(f"max_tokens must be null or >= 1, got {max_tokens!r}")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._type = smallest_unsigned(tokenizer.vocab_size - 1)
        self._sha256 = hashlib.sha256()
        self._open: tuple[int, int] | None = None  # unknown characters and ids of the document being read
        self.tokens = 0
        self.documents = 0
        self.text_bytes = 0
        self.unknown = 0

    def parts(self, documents: Iterable[str]) -> Iterator[PackedPart]:
        """The stream in parts of one batch each. Raises DataError when there is no document.

        Batches are encoded ahead, in threads, unless a cap decides how many documents are read.
        """
        for batch, encodings in self._encoded(_batches(documents)):
            part = self._pack(batch, encodings)
            self._sha256.update(part.ids.tobytes())
            self.tokens += len(part.ids)
            self.text_bytes += int(part.byte_counts.sum(dtype=np.uint64))
            yield part
            if self.tokens == self._max_tokens:
                break
        if self.tokens == 0:
            raise DataError("there is no document to pack; give a corpus that is not empty")
        if self._open:
            self.unknown += self._open[1]  # the cap has cut this document

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the ids given out so far."""
        return self._sha256.hexdigest()

    def stream(self, ids: TokenArray, byte_counts: TokenArray) -> TokenStream:
        """The finished stream, whose parts lie in these arrays."""
        return TokenStream(
            ids=ids,
            byte_counts=byte_counts,
            documents=self.documents,
            text_bytes=self.text_bytes,
            unknown=self.unknown,
            pad_id=self._tokenizer.pad_id,
            bos_id=self._tokenizer.bos_id,
            sha256=self.sha256,
        )

    def _encoded(self, batches: Iterator[list[_Piece]]) -> Iterator[tuple[list[_Piece], list[Encoding]]]:
        """Each batch with its encodings, in order."""
        ahead = 0 if self._max_tokens else ENCODED_AHEAD
        begun: deque[tuple[list[_Piece], Future[list[Encoding]]]] = deque()
        with ThreadPoolExecutor(max_workers=max(1, ahead)) as threads:
            for batch in batches:
                begun.append((batch, threads.submit(self._tokenizer.encode_batch, [piece.text for piece in batch])))
                if len(begun) > ahead:
                    oldest, encodings = begun.popleft()
                    yield oldest, encodings.result()
            while begun:
                oldest, encodings = begun.popleft()
                yield oldest, encodings.result()

    def _pack(self, batch: list[_Piece], encodings: list[Encoding]) -> PackedPart:
        """One batch, cut at the cap."""
        ids, byte_counts = array("I"), array("I")  # a quarter of numpy's own time for a list
        room = None if self._max_tokens is None else self._max_tokens - self.tokens
        for piece, encoding in zip(batch, encodings, strict=True):
            if room is not None and len(ids) >= room:
                break
            if piece.first:
                self.documents += 1
                self._open = (0, 0)
                ids.append(self._tokenizer.bos_id)
                byte_counts.append(0)
            ids.fromlist(encoding.ids)
            byte_counts.fromlist(encoding.byte_counts)
            if piece.last:
                ids.append(self._tokenizer.eos_id)
                byte_counts.append(0)
            whole = room is None or len(ids) <= room
            self._count_unknown(encoding, 0 if whole else len(ids) - (room or 0) - piece.last)
            if piece.last and whole and self._open:
                self.unknown += self._open[0]
                self._open = None
        assert len(ids) == len(byte_counts), "the tokenizer gives one byte count for each id"
        kept, counts = (np.frombuffer(values, dtype=np.dtype("I"))[:room] for values in (ids, byte_counts))
        return PackedPart(kept.astype(self._type), counts.astype(smallest_unsigned(int(counts.max()))))

    def _count_unknown(self, encoding: Encoding, beyond: int) -> None:
        """Add the unknown characters of a part to its document's, and the unknown ids but the last `beyond` ones."""
        characters, ids = self._open or (0, 0)
        if self._max_tokens is not None:  # only a cap can cut a document
            ids += encoding.ids[: len(encoding.ids) - beyond].count(self._tokenizer.unk_id)
        self._open = (characters + encoding.unknown, ids)
