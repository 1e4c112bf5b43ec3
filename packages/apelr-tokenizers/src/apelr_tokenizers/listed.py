"""What our own two forms of tokenizer share: special tokens first, then a list of pieces, in a file of our format."""

from abc import abstractmethod
from collections.abc import Sequence

from apelr_tokenizers.base import PieceTokenizer
from apelr_tokenizers.document import FORMAT_NAME, FORMAT_VERSION, write_document
from apelr_tokenizers.protocol import Encoding


class ListedTokenizer(PieceTokenizer):
    """A tokenizer that names every piece it knows; what is not listed is UNK."""

    def __init__(self, special_tokens: tuple[str, ...], pieces: Sequence[bytes]) -> None:
        """Give the special tokens the first ids and `pieces` the next, in the order given."""
        super().__init__([*(b"" for _ in special_tokens), *pieces], range(len(special_tokens)))
        self._special_tokens = special_tokens

    @property
    def lossless(self) -> bool:
        """False: what is not listed cannot be given back."""
        return False

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text. Raises TokenizerError for a lone surrogate."""
        return [self._encode(text) for text in texts]

    def to_text(self) -> str:
        """Return the complete file content (JSON)."""
        return write_document({"format": FORMAT_NAME, "version": FORMAT_VERSION, **self._content()})

    @abstractmethod
    def _encode(self, text: str) -> Encoding:
        """Encode one text."""
