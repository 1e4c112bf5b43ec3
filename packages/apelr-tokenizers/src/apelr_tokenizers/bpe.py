"""Byte-pair encoding on the `tokenizers` library."""

from collections.abc import Sequence

from apelr_tokenizers.accounting import account_by_offsets, account_by_sizes
from apelr_tokenizers.base import PieceTokenizer
from apelr_tokenizers.bpe_definition import BpeDefinition
from apelr_tokenizers.bpe_file import document_of_definition
from apelr_tokenizers.byte_symbols import symbol_of_byte
from apelr_tokenizers.document import write_document
from apelr_tokenizers.errors import require_scalar_values
from apelr_tokenizers.guard import library_errors
from apelr_tokenizers.protocol import Encoding


class BpeTokenizer(PieceTokenizer):
    """Tokens learned from text, made of bytes (byte-level) or of characters."""

    def __init__(self, definition: BpeDefinition) -> None:
        """Build the tokenizer of a checked `definition`. Raises TokenizerError when the library fails."""
        super().__init__(definition.pieces(), definition.special_ids)
        self._definition = definition
        self._library = definition.build()
        self._sizes = [len(piece) for piece in self._pieces]
        self._sizes[self.unk_id] = 1
        every_byte = definition.byte_level and set(symbol_of_byte()).issubset(definition.tokens)
        self._lossless = every_byte and not definition.normalizers

    @property
    def lossless(self) -> bool:
        """True when every byte has an id and text is not normalized or lowercased first."""
        return self._lossless

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text in one call of the library. Raises TokenizerError for a lone surrogate."""
        for text in texts:
            require_scalar_values(text)
        if not self._definition.normalizers:
            return self._encode_unchanged(texts)
        # Normalization and lowercasing keep the size and order of ASCII characters.
        plain = iter(self._encode_unchanged([text for text in texts if text.isascii()]))
        changed = iter(self._encode_normalized([text for text in texts if not text.isascii()]))
        return [next(plain) if text.isascii() else next(changed) for text in texts]

    def to_text(self) -> str:
        """Return the complete file content: a JSON file that the `tokenizers` library reads too."""
        return write_document(document_of_definition(self._definition))

    def _encode_unchanged(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode texts that normalization leaves alone, or changes byte for byte: offsets are not needed."""
        with library_errors("encode the text"):
            encodings = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        byte_level = self._definition.byte_level
        return [
            account_by_sizes(text, encoding.ids, self._sizes, self.unk_id, byte_level)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _encode_normalized(self, texts: Sequence[str]) -> list[Encoding]:
        with library_errors("encode the text"):
            encodings = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [
            account_by_offsets(text, encoding.ids, encoding.offsets, self.unk_id)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _content(self) -> dict[str, object]:
        definition = self._definition
        return {
            "type": "bpe",
            "tokens": list(definition.tokens),
            "special_ids": list(definition.special_ids),
            "merges": [list(pair) for pair in definition.merges],
            "byte_level": definition.byte_level,
            "normalizers": list(definition.normalizers),
        }
