"""`DataConfig`: which text is read, how it is split, and how much of it is used."""

from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "validation"]

SourceName = Literal[
    "storyworld",
    "python_docs",
    "text",
    "tinystories",
    "wikitext103",
    "wikitext2",
    "fineweb_edu",
    "fineweb",
    "c4_en",
    "wiki40b_en",
    "cc_news",
]

Rule = tuple[str, object, str, bool]

CAPS = (
    "max_train_examples",
    "max_val_examples",
    "max_train_chars",
    "max_val_chars",
    "max_train_tokens",
    "max_val_tokens",
)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The `data` section of a run. Raises ValueError with one line for every broken rule."""

    source: SourceName = "storyworld"
    "The corpus: an embedded one, the user's own text, or one of the named corpora of the Hugging Face hub."
    path: str | None = None
    "For source text: a file, a folder (read with its sub-folders) or a glob."
    val_path: str | None = None
    "For source text: a file, folder or glob that holds the validation text; path is then all training text."
    val_fraction: float = 0.05
    "The share held out where no validation text is given: of each plain file its end, of rows those a hash picks."
    text_field: str = "text"
    "For source text: the key or column that holds the text in .jsonl, .csv and .parquet files."
    max_train_examples: int | None = None
    "The most training documents used; null for no limit."
    max_val_examples: int | None = None
    "The most validation documents used; null for no limit."
    max_train_chars: int | None = None
    "The most characters of training text used, the last document being cut; null for no limit."
    max_val_chars: int | None = None
    "The most characters of validation text used, the last document being cut; null for no limit."
    max_train_tokens: int | None = None
    "The most ids in the packed training stream, BOS and EOS included; null for no limit."
    max_val_tokens: int | None = None
    "The most ids in the packed validation stream, BOS and EOS included; null for no limit."
    min_chars: int = 1
    "Documents of fewer characters are dropped and counted; documents of white space alone always are."
    token_cache: bool = False
    "Whether the packed ids are kept in files and read from there, so that memory does not grow with the corpus."
    token_cache_dir: str | None = None
    "Where token caches lie; null for apelr/tokens in the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."
    reuse_token_cache: bool = True
    "Whether a token cache that fits in everything is read; false writes it anew."
    document_mask: bool = False
    "Whether reading and belief begin afresh at each document's beginning, so that no document sees another."

    def rules(self) -> list[Rule]:
        """Every rule as (field, value, what it must be, whether it holds)."""
        text = self.source == "text"
        known = get_args(SourceName)
        checks: list[Rule] = [
            ("source", self.source, f"one of {', '.join(known)}", self.source in known),
            ("path", self.path, "a file, folder or glob when source is text", bool(self.path) or not text),
            ("path", self.path, "null unless source is text", self.path is None or text),
            ("val_path", self.val_path, "null unless source is text", self.val_path is None or text),
            ("val_path", self.val_path, "null or a file, folder or glob", self.val_path != ""),
            ("val_fraction", self.val_fraction, "> 0 and < 1", 0 < self.val_fraction < 1),
            ("text_field", self.text_field, "a name that is not empty", bool(self.text_field)),
            ("min_chars", self.min_chars, ">= 0", self.min_chars >= 0),
            ("token_cache_dir", self.token_cache_dir, "null or a folder", self.token_cache_dir != ""),
        ]
        caps: list[tuple[str, int | None]] = [(name, getattr(self, name)) for name in CAPS]
        return checks + [(name, cap, "null or >= 1", cap is None or cap >= 1) for name, cap in caps]

    def __post_init__(self) -> None:
        """Raises ValueError with one line for every rule that does not hold."""
        broken = [f"{field} must be {rule}, got {value!r}" for field, value, rule, holds in self.rules() if not holds]
        if broken:
            raise ValueError("\n".join(broken))

    def max_examples(self, split: Split) -> int | None:
        """The cap on the documents of one split."""
        return self.max_train_examples if split == "train" else self.max_val_examples

    def max_chars(self, split: Split) -> int | None:
        """The cap on the characters of one split."""
        return self.max_train_chars if split == "train" else self.max_val_chars

    def max_tokens(self, split: Split) -> int | None:
        """The cap on the packed ids of one split."""
        return self.max_train_tokens if split == "train" else self.max_val_tokens
