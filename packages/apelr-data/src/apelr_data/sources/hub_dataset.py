"""Which dataset of the hub is meant, and how messages name it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from apelr_data.config import DataConfig, Split
from apelr_data.errors import DataError
from apelr_data.sources.registry import SOURCES

TEXT_COLUMN = "text"


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A dataset with a configuration, its splits, and the way it is read."""

    section: str
    "Where its keys stand in a config: data, or data.sources[0]."
    source: str
    "The value of `source`."
    path: str
    "Its id on the hub, or a local folder."
    name: str | None
    "The configuration; None for the default one."
    revision: str | None
    "Branch, tag or commit; None for the newest."
    train_split: str
    "The split of the training documents."
    val_split: str | None
    "The split of the validation documents; None where a hash of each document decides."
    column: str
    "The column that holds the text."
    streaming: bool
    "Whether rows are read as they are needed."
    cache_dir: str | None
    "Where prepared downloads are kept; None for the library's own folder."

    @property
    def local(self) -> bool:
        """Whether it is a folder on this machine."""
        return self.source == "hf" and Path(self.path).is_dir()

    def split(self, split: Split) -> str:
        """The hub's split that holds the documents of one of ours."""
        return self.val_split if self.val_split and split == "validation" else self.train_split

    @property
    def described(self) -> str:
        """Id and configuration for messages."""
        return f"{self.path}, {self.name}" if self.name else self.path

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise a DataError that begins with the setting to change; a named corpus has but `source`."""
        if self.source == "hf":
            raise DataError(f"{self.section}.{key}: {problem}")
        raise DataError(f"{self.section}.source {self.source}: {problem}")


def hub_dataset(section: str, config: DataConfig) -> HubDataset:
    """The dataset that a config names by `source` alone or, for hf, by its keys."""
    info = SOURCES[config.source]
    named = config.source != "hf"
    return HubDataset(
        section=section,
        source=config.source,
        path=info.hub_id or _home_expanded(config.path or ""),
        name=info.hub_config if named else config.name,
        revision=config.revision,
        train_split=config.train_split,
        val_split=info.hub_validation if named else config.val_split,
        column=TEXT_COLUMN if named else config.text_field,
        streaming=info.streaming if config.streaming is None else config.streaming,
        cache_dir=config.cache_dir,
    )


def _home_expanded(path: str) -> str:
    """A path below ~ in full; any other as it is, for Path would drop a leading ./ that tells it from an id."""
    return str(Path(path).expanduser()) if path.startswith("~") else path
