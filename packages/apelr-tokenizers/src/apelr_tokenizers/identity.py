"""Numbers written in a text are the ids themselves: nothing is learned from text."""

import re

from apelr_tokenizers.config import LARGEST_VOCABULARY
from apelr_tokenizers.document import JsonObject, special_names
from apelr_tokenizers.errors import TokenizerError, require_scalar_values, shown
from apelr_tokenizers.listed import ListedTokenizer
from apelr_tokenizers.protocol import Encoding

# Every text is made of these. Both places where a packer cuts a long text, behind line ends and before single spaces,
# are borders here too, so that its parts give the ids of the whole.
_TOKEN = re.compile(r" ?[^ \n]+|\n+| ")
_NUMBER = re.compile(r" ?(0|[1-9][0-9]{0,6})")  # written as decoding writes it; 7 digits hold the largest vocabulary


class IdentityTokenizer(ListedTokenizer):
    """Special tokens first, then one id for each of the numbers (symbols) 0, 1, 2 …

    A text is whole numbers in decimal, each at the text's start or behind one space: symbol n has the id n + the
    number of special tokens. Anything else is UNK. It gives back a space and the number for each id, so that
    decoded parts can be joined: the first number of a text gets one that was not there.
    """

    def __init__(self, special_tokens: tuple[str, ...], vocab_size: int) -> None:
        """Give the special tokens the first ids and the symbols the rest, `vocab_size` ids in all."""
        first = len(special_tokens)
        super().__init__(special_tokens, [b" %d" % symbol for symbol in range(vocab_size - first)])
        self._ids = _IdOfToken(first, vocab_size, self.unk_id)

    def _encode(self, text: str) -> Encoding:
        require_scalar_values(text)
        tokens = _TOKEN.findall(text)
        ids = list(map(self._ids.__getitem__, tokens))
        sizes = list(map(len, tokens if text.isascii() else (token.encode("utf-8") for token in tokens)))
        unknown = 0
        if self.unk_id in ids:
            unknown = sum(len(token) for token, token_id in zip(tokens, ids, strict=True) if token_id == self.unk_id)
        return Encoding(ids, sizes, unknown)

    def _content(self) -> dict[str, object]:
        return {"type": "identity", "special_tokens": list(self._special_tokens), "vocab_size": self.vocab_size}


class _IdOfToken(dict[str, int]):
    """A token of a text to its id; the known ones are kept when they are first met, at most two for each id."""

    def __init__(self, first_id: int, vocab_size: int, unk_id: int) -> None:
        super().__init__()
        self._first_id, self._vocab_size, self._unk_id = first_id, vocab_size, unk_id

    def __missing__(self, token: str) -> int:
        number = _NUMBER.fullmatch(token)
        token_id = self._first_id + int(number[1]) if number else self._vocab_size
        if token_id >= self._vocab_size:
            return self._unk_id
        self[token] = token_id
        return token_id


def identity_from_document(document: JsonObject) -> IdentityTokenizer:
    """Read our own identity file. Raises TokenizerError naming the key that is wrong."""
    special_tokens = special_names(document)
    size, smallest = document.get("vocab_size"), len(special_tokens) + 1
    if type(size) is not int or not smallest <= size <= LARGEST_VOCABULARY:
        raise TokenizerError(
            f"vocab_size must be a whole number from {smallest} to {LARGEST_VOCABULARY}, got {shown(size)}"
        )
    return IdentityTokenizer(special_tokens, size)
