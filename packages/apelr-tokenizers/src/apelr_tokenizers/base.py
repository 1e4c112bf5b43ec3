"""What all tokenizers share: special ids, decoding from a table of pieces, saving, the fingerprint."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from apelr_tokenizers.errors import TokenizerError, shown
from apelr_tokenizers.files import write_text
from apelr_tokenizers.protocol import Encoding
from apelr_tokenizers.stream import StreamDecoder


class PieceTokenizer(ABC):
    """A tokenizer in which each id stands for a fixed piece of UTF-8 text."""

    def __init__(self, pieces: list[bytes], special_ids: Sequence[int]) -> None:
        """Take the bytes of each id (empty for special ids) and the ids of pad, bos, eos, unk, others."""
        self._pieces = pieces
        self._pad_id, self._bos_id, self._eos_id, self._unk_id = special_ids[:4]

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._pieces)

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self._pad_id

    @property
    def bos_id(self) -> int:
        """Id of the token before a document."""
        return self._bos_id

    @property
    def eos_id(self) -> int:
        """Id of the token after a document."""
        return self._eos_id

    @property
    def unk_id(self) -> int:
        """Id of what the vocabulary does not hold."""
        return self._unk_id

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content that decides ids and text."""
        canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def encode(self, text: str) -> Encoding:
        """Encode one text. Raises TokenizerError for a lone surrogate."""
        return self.encode_batch([text])[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text. Raises TokenizerError for a lone surrogate."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`. Raises TokenizerError for an id outside the vocabulary."""
        ids = list(ids)
        if ids and not (min(ids) >= 0 and max(ids) < len(self._pieces)):
            bad = min(ids) if min(ids) < 0 else max(ids)
            raise TokenizerError(f"id must be in 0 .. {len(self._pieces) - 1}, got {shown(bad)}")
        return b"".join(map(self._pieces.__getitem__, ids)).decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        """Return a fresh incremental decoder."""
        return StreamDecoder(self._pieces)

    @abstractmethod
    def to_text(self) -> str:
        """Return the complete file content (JSON)."""

    def save(self, path: Path) -> None:
        """Write `to_text()` to `path` whole or not at all. Raises OSError when writing fails."""
        write_text(path, self.to_text())

    @abstractmethod
    def _content(self) -> dict[str, object]:
        """Return, as JSON values, everything that decides ids and text, and nothing else."""
