"""`DataConfig`: which text is read, how it is split, and how much of it is used."""

import math
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from apelr_data.planted_config import PlantedConfig
from apelr_data.ruled import Rule, Ruled

Split = Literal["train", "validation"]
"""Which part of a corpus."""

SourceName = Literal[
    "storyworld",
    "planted",
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
    "hf",
]
"""What `data.source` may say; `SOURCES` has the table of them."""

LOCAL_SOURCES = ("storyworld", "planted", "python_docs", "text")

CAPS = (
    "max_train_examples",
    "max_val_examples",
    "max_train_chars",
    "max_val_chars",
    "max_train_tokens",
    "max_val_tokens",
)


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Ruled):
    """One source of documents: the keys that `data` and each entry of `data.sources` share."""

    source: SourceName = "storyworld"
    "The corpus: an embedded one, the user's own text, a named corpus of the Hugging Face hub, or hf: any other there."
    path: str | None = None
    "For text: a file, a folder (read with its sub-folders) or a glob. For hf: a dataset's id, or a local folder."
    val_path: str | None = None
    "For text: a file, folder or glob that holds the validation text; path is then all training text."
    text_field: str = "text"
    "For text and hf: the key or column that holds the text."
    name: str | None = None
    "For hf: the configuration of the dataset; null for its default one."
    revision: str | None = None
    "For the hub's corpora: the branch, tag or commit that is read; null for the newest."
    train_split: str = "train"
    "For hf: the split that holds the training documents."
    val_split: str | None = None
    "For hf: the split that holds the validation documents; null to hold out val_fraction of train_split by a hash."
    streaming: bool | None = None
    "For the hub's corpora: whether rows are read as they are needed; null for each corpus's own way, for hf true."
    cache_dir: str | None = None
    "For the hub's corpora: where prepared downloads are kept; null for the folder of the datasets library."
    planted: PlantedConfig | None = None
    "For planted: the sizes of the source; null for the defaults."

    def __post_init__(self) -> None:
        """Fill in the section of a planted source. Raises ValueError with one line for every broken rule."""
        if self.source == "planted" and self.planted is None:
            object.__setattr__(self, "planted", PlantedConfig())
        super().__post_init__()

    def rules(self) -> list[Rule]:
        """Every rule as (field, value, what it must be, whether it holds)."""
        text, hf, hub = self.source == "text", self.source == "hf", self.source not in LOCAL_SOURCES
        known = get_args(SourceName)
        ours, theirs = "a file, folder or glob when source is text", "a dataset's id or a folder when source is hf"
        return [
            ("source", self.source, f"one of {', '.join(known)}", self.source in known),
            ("path", self.path, ours, bool(self.path) or not text),
            ("path", self.path, theirs, bool(self.path) or not hf),
            ("path", self.path, "null unless source is text or hf", self.path is None or text or hf),
            ("val_path", self.val_path, "null unless source is text", self.val_path is None or text),
            ("val_path", self.val_path, "null or a file, folder or glob", self.val_path != ""),
            ("text_field", self.text_field, "a name that is not empty", bool(self.text_field)),
            (
                "text_field",
                self.text_field,
                "text unless source is text or hf",
                self.text_field in ("text", "") or text or hf,
            ),
            ("name", self.name, "null unless source is hf", self.name is None or hf),
            ("name", self.name, "null or the name of a configuration", self.name != ""),
            ("revision", self.revision, "null unless source is a corpus of the hub", self.revision is None or hub),
            ("revision", self.revision, "null or a branch, tag or commit", self.revision != ""),
            ("train_split", self.train_split, "train unless source is hf", self.train_split == "train" or hf),
            ("train_split", self.train_split, "the name of a split", bool(self.train_split)),
            ("val_split", self.val_split, "null unless source is hf", self.val_split is None or hf),
            ("val_split", self.val_split, "null or the name of a split", self.val_split != ""),
            (
                "val_split",
                self.val_split,
                f"null or another split than train_split ({self.train_split})",
                self.val_split != self.train_split,
            ),
            ("streaming", self.streaming, "null unless source is a corpus of the hub", self.streaming is None or hub),
            ("cache_dir", self.cache_dir, "null unless source is a corpus of the hub", self.cache_dir is None or hub),
            ("cache_dir", self.cache_dir, "null or a folder", self.cache_dir != ""),
            ("planted", self.planted, "null unless source is planted", not self.planted or self.source == "planted"),
        ]


@dataclass(frozen=True, kw_only=True)
class MixedSource(SourceConfig):
    """One entry of `data.sources`."""

    source: SourceName = field()
    "The corpus, as data.source names it."
    weight: float = 1.0
    "Its share of the characters, by the sum of all weights."

    def rules(self) -> list[Rule]:
        """Every rule as (field, value, what it must be, whether it holds)."""
        return [*super().rules(), ("weight", self.weight, "> 0 and finite", 0 < self.weight < math.inf)]


@dataclass(frozen=True, kw_only=True)
class DataConfig(SourceConfig):
    """The `data` section of a run. Raises ValueError with one line for every broken rule."""

    sources: tuple[MixedSource, ...] = ()
    "Several sources, mixed by weight, in place of source and its keys; the mixture ends with the first that ends."
    val_fraction: float = 0.05
    "The share held out where no validation text is given: of each plain file its end, of rows those a hash picks."
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
    order: Literal["shuffled", "contiguous"] = "shuffled"
    "How training rows are drawn: shuffled, or each row of a batch going on where the same row of the last one ended."
    lane_rows: int = 8
    "For order contiguous: rows that go on from one another before a lane moves to another place of the text."
    document_mask: bool = False
    "Whether reading and belief begin afresh at each document's beginning, so that no document sees another."

    def rules(self) -> list[Rule]:
        """Every rule as (field, value, what it must be, whether it holds)."""
        alone = not self.sources or self.source == "storyworld"
        caps: list[tuple[str, int | None]] = [(name, getattr(self, name)) for name in CAPS]
        return [
            *super().rules(),
            ("source", self.source, "left out when sources are given: each has its own", alone),
            ("val_fraction", self.val_fraction, "> 0 and < 1", 0 < self.val_fraction < 1),
            ("order", self.order, "shuffled or contiguous", self.order in ("shuffled", "contiguous")),
            ("lane_rows", self.lane_rows, ">= 1", self.lane_rows >= 1),
            (
                "lane_rows",
                self.lane_rows,
                "left at its default unless order is contiguous",
                self.lane_rows == DataConfig.lane_rows or self.order == "contiguous",
            ),
            ("min_chars", self.min_chars, ">= 0", self.min_chars >= 0),
            ("token_cache_dir", self.token_cache_dir, "null or a folder", self.token_cache_dir != ""),
            *[(name, cap, "null or >= 1", cap is None or cap >= 1) for name, cap in caps],
        ]

    def parts(self) -> list["DataConfig"]:
        """The config of each source alone, with what all of them share: of a mixture its entries, else itself."""
        if not self.sources:
            return [self]
        own = [each.name for each in fields(SourceConfig)]
        shared = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in own}
        shared["sources"] = ()
        return [DataConfig(**{name: getattr(each, name) for name in own}, **shared) for each in self.sources]

    def max_examples(self, split: Split) -> int | None:
        """The cap on the documents of one split."""
        return self.max_train_examples if split == "train" else self.max_val_examples

    def max_chars(self, split: Split) -> int | None:
        """The cap on the characters of one split."""
        return self.max_train_chars if split == "train" else self.max_val_chars

    def max_tokens(self, split: Split) -> int | None:
        """The cap on the packed ids of one split."""
        return self.max_train_tokens if split == "train" else self.max_val_tokens
