"""A BPE tokenizer as plain values: checked here, then built on the `tokenizers` library."""

from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from apelr_tokenizers.byte_symbols import symbols_to_bytes
from apelr_tokenizers.config import LARGEST_VOCABULARY
from apelr_tokenizers.errors import TokenizerError, shown
from apelr_tokenizers.guard import library_errors

WORD_PATTERN = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""How character BPE cuts text before merging: nothing is dropped, a space goes with the next word."""

NORMALIZERS = {
    "NFC": normalizers.NFC,
    "NFKC": normalizers.NFKC,
    "NFD": normalizers.NFD,
    "NFKD": normalizers.NFKD,
    "Lowercase": normalizers.Lowercase,
}


@dataclass(frozen=True, kw_only=True)
class BpeDefinition:
    """Everything that decides what a BPE tokenizer does. Raises TokenizerError when it makes no sense.

    The library checks little of this and panics, drops text or emits special ids where it is broken.
    """

    tokens: tuple[str, ...]
    """Tokens by id; byte-level ones are written in byte symbols, special ones are names."""
    special_ids: tuple[int, ...]
    """Ids of pad, bos, eos, unk, then of other special tokens."""
    merges: tuple[tuple[str, str], ...]
    """Pairs of tokens to merge, most important first."""
    byte_level: bool
    """Whether tokens are made of bytes (else of characters)."""
    normalizers: tuple[str, ...]
    """Keys of NORMALIZERS, applied to text in this order."""

    def __post_init__(self) -> None:
        """Check the vocabulary, the special tokens and the merges."""
        if len(self.tokens) > LARGEST_VOCABULARY:
            raise TokenizerError(f"a vocabulary must be <= {LARGEST_VOCABULARY} ids, got {len(self.tokens)}")
        special = {self.tokens[index] for index in self.special_ids}
        for token in special:
            if len(token) < 2:
                raise TokenizerError(f"special tokens must have 2 characters or more, got {shown(token)}")
        ordinary = set(self.tokens) - special
        if self.byte_level:
            for token in ordinary:
                if symbols_to_bytes(token) is None:
                    raise TokenizerError(f"byte-level tokens must be made of byte symbols, got {shown(token)}")
        for pair in self.merges:
            if not (pair[0] in ordinary and pair[1] in ordinary and pair[0] + pair[1] in ordinary):
                raise TokenizerError(f"merges must join two ordinary tokens to an ordinary token, got {shown(pair)}")
        if len(set(self.merges)) < len(self.merges):
            raise TokenizerError("merges must be free of duplicates")

    def pieces(self) -> list[bytes]:
        """Return the UTF-8 bytes each id stands for, empty for special ids."""
        special = set(self.special_ids)
        return [b"" if index in special else self._piece(token) for index, token in enumerate(self.tokens)]

    def _piece(self, token: str) -> bytes:
        piece = symbols_to_bytes(token) if self.byte_level else token.encode("utf-8")
        assert piece is not None, "byte-level tokens were checked to be made of byte symbols"
        return piece

    def build(self) -> Tokenizer:
        """Return the library's tokenizer for encoding.

        Special tokens are in its model, where nothing merges to them, and not in its added vocabulary,
        which it would look for inside the text.
        """
        with library_errors("build the BPE tokenizer"):
            vocabulary = {token: index for index, token in enumerate(self.tokens)}
            unknown = self.tokens[self.special_ids[3]]
            library = Tokenizer(models.BPE(vocabulary, list(self.merges), unk_token=unknown))
            set_pipeline(library, byte_level=self.byte_level, names=self.normalizers)
        return library


def set_pipeline(library: Tokenizer, *, byte_level: bool, names: tuple[str, ...]) -> None:
    """Give `library` the normalizers `names` and the cutting into words that `byte_level` asks for."""
    if names:
        library.normalizer = normalizers.Sequence([NORMALIZERS[name]() for name in names])
    if byte_level:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        library.pre_tokenizer = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated")
