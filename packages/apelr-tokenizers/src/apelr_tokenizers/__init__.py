"""Character, byte-pair and identity tokenizers behind one protocol, with exact byte accounting."""

from apelr_tokenizers.bpe import BpeTokenizer
from apelr_tokenizers.char import CharTokenizer
from apelr_tokenizers.config import TokenizerConfig
from apelr_tokenizers.errors import TokenizerError
from apelr_tokenizers.fit import fit_tokenizer
from apelr_tokenizers.identity import IdentityTokenizer
from apelr_tokenizers.load import load_tokenizer, tokenizer_from_text
from apelr_tokenizers.protocol import Encoding, Tokenizer
from apelr_tokenizers.stream import StreamDecoder

__all__ = [
    "BpeTokenizer",
    "CharTokenizer",
    "Encoding",
    "IdentityTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerError",
    "fit_tokenizer",
    "load_tokenizer",
    "tokenizer_from_text",
]
