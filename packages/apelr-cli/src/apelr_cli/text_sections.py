"""The part of a run's config that decides its ids, read without the model's sections and so without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apelr_cli.config_tree import read_tree
from apelr_cli.errors import ConfigError
from apelr_cli.typed_reader import TypedReader
from apelr_cli.typed_values import read_text
from apelr_data import DataConfig
from apelr_tokenizers import TokenizerConfig

__all__ = ["OTHER_KEYS", "TextSections", "load_text_sections"]

OTHER_KEYS = ("device", "model", "train")
"""Keys of a run's config that are left unread here; `apelr train` checks them."""


@dataclass(frozen=True, kw_only=True)
class TextSections:
    """What decides the ids of a run."""

    seed: int = 0
    """Seed of generated stories and planted text."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """How text becomes ids."""
    data: DataConfig = field(default_factory=DataConfig)
    """The text."""

    def rules(self) -> list[tuple[str, object, str, bool]]:
        """Every rule on the fields, with whether it holds."""
        return [("seed", self.seed, "between 0 and 2^63 - 1", 0 <= self.seed < 2**63)]


def load_text_sections(path: Path, overrides: Sequence[str]) -> TextSections:
    """Read these sections of a YAML file under overrides. Raises ConfigError with a line for each problem."""
    tree, problems = read_tree(path, overrides)
    reader = TypedReader(TextSections, {key: tree[key] for key in tree if key not in OTHER_KEYS}, read_text)
    sections = reader.read()
    if problems or reader.problems:
        raise ConfigError("\n".join([*problems, *reader.problems]))
    assert isinstance(sections, TextSections), "the reader reads its root class"
    return sections
