"""The tokenizer settings, their defaults and their rules."""

from dataclasses import dataclass
from typing import Literal, get_args

TokenizerType = Literal["char", "bpe", "identity"]
NormalizerName = Literal["none", "nfc", "nfkc", "nfd", "nfkd"]

BYTE_VALUES = 256
LARGEST_VOCABULARY = 1_000_000
"""Bound on a vocabulary, so that a slip of the keyboard or a crafted file cannot take all memory."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How a tokenizer is fitted. A broken rule is a ValueError with one line per rule."""

    type: TokenizerType = "bpe"
    """`char`: one id per character; `bpe`: byte-pair encoding; `identity`: the text is numbers, which are the ids."""
    vocab_size: int = 2048
    """Upper bound on the number of ids, special tokens included: the most frequent are kept, by `identity` all."""
    min_frequency: int = 2
    """A character (unless byte-level) or a merged pair seen less often than this gets no id."""
    byte_level: bool = True
    """BPE over UTF-8 bytes, which knows every text; false: over characters. `char` ignores it."""
    lowercase: bool = False
    """BPE only: text is lowercased before encoding, which decoding cannot undo."""
    special_tokens: tuple[str, ...] = ("<pad>", "<bos>", "<eos>", "<unk>")
    """Names of the padding, begin, end and unknown tokens, in this order; more may follow."""
    normalizer: NormalizerName = "none"
    """BPE only: Unicode normalization before encoding, which decoding cannot undo."""
    fit_max_chars: int = 50_000_000
    """Characters read for fitting; a document that goes beyond is cut."""

    def __post_init__(self) -> None:
        """Raise one ValueError that names every broken rule."""
        broken = [f"{field} must be {rule}, got {value!r}" for field, value, rule, holds in self.rules() if not holds]
        if broken:
            raise ValueError("\n".join(broken))

    def rules(self) -> list[tuple[str, object, str, bool]]:
        """Return every rule as (field, value, rule text, whether it holds)."""
        names = self.special_tokens
        smallest, why = len(names) + 1, ""
        if self.type == "bpe" and self.byte_level:
            smallest = BYTE_VALUES + len(names)
            why = f" for byte-level BPE ({BYTE_VALUES} bytes + {len(names)} special tokens)"
        types, normalizers = get_args(TokenizerType), get_args(NormalizerName)
        bpe, fitted = self.type not in ("char", "identity"), self.type != "identity"
        unused = "when type is identity, which is not fitted"
        fitting = [(name, getattr(TokenizerConfig, name)) for name in ("min_frequency", "byte_level", "fit_max_chars")]
        return [
            ("type", self.type, f"one of {', '.join(types)}", self.type in types),
            ("vocab_size", self.vocab_size, f">= {smallest}{why}", self.vocab_size >= smallest),
            ("vocab_size", self.vocab_size, f"<= {LARGEST_VOCABULARY}", self.vocab_size <= LARGEST_VOCABULARY),
            ("min_frequency", self.min_frequency, ">= 1", self.min_frequency >= 1),
            ("lowercase", self.lowercase, f"false when type is {self.type}", bpe or not self.lowercase),
            ("special_tokens", names, "at least 4 names: pad, bos, eos, unk, then any others", len(names) >= 4),
            ("special_tokens", names, "free of duplicates", len(set(names)) == len(names)),
            ("special_tokens", names, "names of 2 characters or more", all(len(name) >= 2 for name in names)),
            ("special_tokens", names, "free of lone surrogates", not any(map(_has_surrogate, names))),
            ("normalizer", self.normalizer, f"one of {', '.join(normalizers)}", self.normalizer in normalizers),
            ("normalizer", self.normalizer, f"none when type is {self.type}", bpe or self.normalizer == "none"),
            ("fit_max_chars", self.fit_max_chars, ">= 1", self.fit_max_chars >= 1),
            *[
                (
                    name,
                    getattr(self, name),
                    f"left at {str(default).lower()} {unused}",
                    fitted or getattr(self, name) == default,
                )
                for name, default in fitting
            ],
        ]


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
