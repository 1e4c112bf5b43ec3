"""Documents -> one stream of ids: BOS document EOS BOS document EOS …"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apelr_data.errors import DataError
from apelr_tokenizers import Tokenizer

BATCH_CHARS = 1 << 20
BATCH_PIECES = 1024
PIECE_CHARS = 1 << 18
_LINE_START = re.compile(r"\n(?=\S)")
_WORD_END = re.compile(r"(?<=\S)(?= \S)")


@dataclass(frozen=True, eq=False)
class TokenStream:
    """A split as ids, in the order of its documents."""

    ids: np.ndarray
    "Ids [N], uint16 where the vocabulary has at most 65,536 ids, else uint32."
    byte_counts: np.ndarray
    "UTF-8 bytes of the cleaned text that each id accounts for, uint32 [N]; 0 for BOS and EOS."
    documents: int
    "Documents begun in the stream; a cap on the ids may have cut the last one."
    text_bytes: int
    "The sum of byte_counts; without a cap, exactly the UTF-8 bytes of all documents."
    unknown: int
    "Characters that became the unknown id; of a document cut by a cap, its unknown ids."
    pad_id: int = 0
    "The id that fills rows up; it accounts for no bytes."


class _Piece(NamedTuple):
    """A document, or a part of a long one."""

    text: str
    first: bool
    last: bool


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
    """Encode documents into one stream with BOS and EOS at each one's ends; stop after `max_tokens` ids.

    Documents are read as they are needed, encoded in batches of bounded size, and very long ones in parts. Without
    a cap the byte counts sum to the UTF-8 bytes of the documents as given, that is as cleaned. Raises DataError
    for a cap below 1 or when there is no document.
    """
    if max_tokens is not None and max_tokens < 1:
        raise DataError(f"max_tokens must be null or >= 1, got {max_tokens!r}")
    builder = _StreamBuilder(tokenizer)
    for batch in _batches(documents):
        builder.add(batch)
        if max_tokens is not None and builder.length >= max_tokens:
            break
    if builder.length == 0:
        raise DataError("there is no document to pack; give a corpus that is not empty")
    return builder.stream(max_tokens)


class _StreamBuilder:
    """Collects one array a batch, so that no list of ids of the whole corpus is ever held."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        self._ids: list[np.ndarray] = []
        self._byte_counts: list[np.ndarray] = []
        self._finished = (0, 0)  # documents, and their unknown characters
        self._recent: list[tuple[int, int]] = []  # first position and unknown characters: where a cap may cut
        self.length = 0

    def add(self, batch: list[_Piece]) -> None:
        """Encode one batch and append it."""
        self._finish_all_but_the_last()
        ids: list[int] = []
        byte_counts: list[int] = []
        encodings = self._tokenizer.encode_batch([piece.text for piece in batch])
        for piece, encoding in zip(batch, encodings, strict=True):
            if piece.first:
                self._recent.append((self.length + len(ids), 0))
                ids.append(self._tokenizer.bos_id)
                byte_counts.append(0)
            ids.extend(encoding.ids)
            byte_counts.extend(encoding.byte_counts)
            start, unknown = self._recent[-1]
            self._recent[-1] = (start, unknown + encoding.unknown)
            if piece.last:
                ids.append(self._tokenizer.eos_id)
                byte_counts.append(0)
        assert len(ids) == len(byte_counts), "the tokenizer gives one byte count for each id"
        self._ids.append(np.asarray(ids, dtype=self._dtype))
        self._byte_counts.append(np.asarray(byte_counts, dtype=np.uint32))
        self.length += len(ids)

    def _finish_all_but_the_last(self) -> None:
        """Count the documents that a cap can no longer cut; the last one may go on in the next batch."""
        documents, unknown = self._finished
        closed = self._recent[:-1]
        self._finished = (documents + len(closed), unknown + sum(count for _, count in closed))
        self._recent = self._recent[-1:]

    def stream(self, max_tokens: int | None) -> TokenStream:
        """The whole stream, cut at `max_tokens` ids; the builder is empty afterwards."""
        ids = np.concatenate(self._ids)[:max_tokens]
        self._ids.clear()  # frees one copy before the next is made
        byte_counts = np.concatenate(self._byte_counts)[:max_tokens]
        self._byte_counts.clear()
        begun = [document for document in self._recent if document[0] < len(ids)]
        unknown = self._finished[1] + sum(count for _, count in begun)
        if len(ids) < self.length:
            start, whole = begun[-1]
            unknown += int(np.count_nonzero(ids[start:] == self._tokenizer.unk_id)) - whole
        return TokenStream(
            ids=ids,
            byte_counts=byte_counts,
            documents=self._finished[0] + len(begun),
            text_bytes=int(byte_counts.sum(dtype=np.uint64)),
            unknown=unknown,
            pad_id=self._tokenizer.pad_id,
        )
