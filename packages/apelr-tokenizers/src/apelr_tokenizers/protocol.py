"""What every tokenizer promises; the contract tests run on each implementation."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from apelr_tokenizers.stream import StreamDecoder


class Encoding(NamedTuple):
    """A text as token ids, with the bytes of the original text that each id accounts for."""

    ids: list[int]
    """Token ids, in the order of the text; never BOS, EOS or another special id except UNK."""
    byte_counts: list[int]
    """UTF-8 bytes of the ORIGINAL text behind each id; they sum to the text's size in bytes exactly."""
    unknown: int
    """Characters of the original text of which all or a part became UNK."""


class Tokenizer(Protocol):
    """Turns text into ids and back.

    A text that is not empty gives at least one id, so that no bytes are left without an owner.
    `encode` and `encode_batch` raise TokenizerError for a lone surrogate, `decode` and
    `StreamDecoder.push` for an id outside the vocabulary; nothing else about a text is an error.
    """

    @property
    def vocab_size(self) -> int:
        """Number of ids: every id is in 0 .. vocab_size - 1."""

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""

    @property
    def bos_id(self) -> int:
        """Id of the token before a document."""

    @property
    def eos_id(self) -> int:
        """Id of the token after a document."""

    @property
    def unk_id(self) -> int:
        """Id that stands for what the vocabulary does not hold."""

    @property
    def lossless(self) -> bool:
        """Whether decode(encode(x).ids) == x for every string x of Unicode scalar values."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that decides ids and text; independent of file formatting."""

    def encode(self, text: str) -> Encoding:
        """Encode one text. BOS and EOS are not added; special-token text inside it is ordinary text."""

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text exactly as `encode` does, faster."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`. Special ids are left out; invalid UTF-8 becomes U+FFFD."""

    def stream_decoder(self) -> StreamDecoder:
        """Return a fresh incremental decoder, which gives the text that `decode` gives."""

    def to_text(self) -> str:
        """Return the complete file content (JSON), which `tokenizer_from_text` reads."""

    def save(self, path: Path) -> None:
        """Write `to_text()` to `path` whole or not at all. Raises OSError when writing fails."""
