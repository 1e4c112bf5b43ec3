"""One id per character."""

from apelr_tokenizers.config import LARGEST_VOCABULARY
from apelr_tokenizers.document import JsonObject, names, special_names
from apelr_tokenizers.errors import TokenizerError, require_scalar_values, shown
from apelr_tokenizers.listed import ListedTokenizer
from apelr_tokenizers.protocol import Encoding

PROTOTYPE_SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")


class CharTokenizer(ListedTokenizer):
    """Special tokens first, then one id per known character; any other character is UNK.

    It gives back only texts whose characters it knows, so `lossless` is false.
    """

    def __init__(self, special_tokens: tuple[str, ...], characters: tuple[str, ...]) -> None:
        """Give the special tokens the first ids and `characters` the next, in the order given.

        Raises TokenizerError unless each of `characters` is one character.
        """
        for character in characters:
            if len(character) != 1:
                raise TokenizerError(f"characters must hold single characters, got {shown(character)}")
        pieces = [character.encode("utf-8") for character in characters]
        super().__init__(special_tokens, pieces)
        self._characters = characters
        self._ids = _IdOfCharacter(zip(characters, range(len(special_tokens), self.vocab_size), strict=True))
        self._ids.unk_id = self.unk_id
        self._sizes = _SizeOfCharacter(zip(characters, map(len, pieces), strict=True))

    def _encode(self, text: str) -> Encoding:
        require_scalar_values(text)
        ids = list(map(self._ids.__getitem__, text))
        sizes = [1] * len(ids) if text.isascii() else list(map(self._sizes.__getitem__, text))
        return Encoding(ids, sizes, ids.count(self.unk_id))

    def _content(self) -> dict[str, object]:
        special_tokens, characters = list(self._special_tokens), list(self._characters)
        return {"type": "char", "special_tokens": special_tokens, "characters": characters}


class _IdOfCharacter(dict[str, int]):
    """Character to id; a lookup that fails gives UNK without leaving the interpreter's fast path."""

    unk_id: int

    def __missing__(self, character: str) -> int:
        return self.unk_id


class _SizeOfCharacter(dict[str, int]):
    """Character to its UTF-8 size in bytes, for unknown characters too."""

    def __missing__(self, character: str) -> int:
        return len(character.encode("utf-8"))


def char_from_document(document: JsonObject) -> CharTokenizer:
    """Read our own character file. Raises TokenizerError naming the key that is wrong."""
    return _build(special_names(document), names(document.get("characters"), "characters"))


def char_from_prototype(document: JsonObject) -> CharTokenizer:
    """Read the prototype's `{"itos": [...]}`. Raises TokenizerError naming the token that is wrong."""
    tokens = names(document.get("itos"), "itos")
    for position, token in enumerate(PROTOTYPE_SPECIAL_TOKENS):
        if token not in tokens:
            raise TokenizerError(f"itos has no {token} token")
        if tokens[position] != token:
            raise TokenizerError(f"itos must have {token} at position {position}, got {shown(tokens[position])}")
    return _build(PROTOTYPE_SPECIAL_TOKENS, tokens[len(PROTOTYPE_SPECIAL_TOKENS) :])


def _build(special_tokens: tuple[str, ...], characters: tuple[str, ...]) -> CharTokenizer:
    size = len(special_tokens) + len(characters)
    if size > LARGEST_VOCABULARY:
        raise TokenizerError(f"a vocabulary must be <= {LARGEST_VOCABULARY} ids, got {size}")
    return CharTokenizer(special_tokens, characters)
