"""Recognising and reading tokenizer files."""

from pathlib import Path

from apelr_tokenizers.bpe import BpeTokenizer
from apelr_tokenizers.bpe_file import definition_of_document
from apelr_tokenizers.char import char_from_document, char_from_prototype
from apelr_tokenizers.document import JsonObject, check_format, parse_document
from apelr_tokenizers.errors import TokenizerError, shown
from apelr_tokenizers.files import read_text
from apelr_tokenizers.identity import identity_from_document
from apelr_tokenizers.protocol import Tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer file: our own, the prototype's character list, or the `tokenizers` library's JSON.

    Raises TokenizerError, one line that begins with the path, for anything else.
    """
    text = read_text(path)
    try:
        return tokenizer_from_text(text)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def tokenizer_from_text(text: str) -> Tokenizer:
    """Read the content of a tokenizer file. Raises TokenizerError as `load_tokenizer` does."""
    document = parse_document(text)
    if "format" in document:
        return _own_form(document)
    if "itos" in document:
        return char_from_prototype(document)
    if "model" in document:
        return BpeTokenizer(definition_of_document(document))
    raise TokenizerError("not a tokenizer file: none of the keys 'format', 'itos' and 'model' is there")


def _own_form(document: JsonObject) -> Tokenizer:
    """Read a file that carries our format's name. Raises TokenizerError naming the key that is wrong."""
    check_format(document)
    kind = document.get("type")
    if kind == "char":
        return char_from_document(document)
    if kind == "identity":
        return identity_from_document(document)
    raise TokenizerError(f"type must be 'char' or 'identity', got {shown(kind)}")
