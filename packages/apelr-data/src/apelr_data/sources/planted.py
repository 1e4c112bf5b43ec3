"""Planted symbols as a source of text: one document for each split, its numbers parted by single spaces."""

import math
from collections.abc import Generator, Iterator

import numpy as np

from apelr_data.config import DataConfig, Split
from apelr_data.planted import PlantedSource
from apelr_data.planted_config import PlantedConfig
from apelr_data.sources.protocol import PlannedDocument, RawDocument


class PlantedText:
    """The symbols of a `PlantedSource` in decimal: "17 4 63 …"."""

    local = True

    def __init__(self, config: DataConfig, seed: int) -> None:
        """`seed` draws the text."""
        self._config = config
        self._source = PlantedSource(config.planted or PlantedConfig(), seed=seed)
        self.plan_names = tuple(map(str, range(self._source.config.num_plans)))

    def read(self, split: Split) -> Generator[RawDocument]:
        """The document of a split."""
        yield RawDocument(_text(self._source.stream(split).symbols), by_hash=False)

    def planned(self, split: Split) -> Iterator[PlannedDocument]:
        """The document of a split, each symbol with its plan."""
        symbols, plans = self._source.stream(split)
        yield PlannedDocument(_text(symbols), _ends(symbols), plans)

    def bits_per_byte(self, split: Split) -> float:
        """The exact -log2 probability of the symbols of a split by the bytes of their text.

        The belief is carried through the whole text. A cap on the characters ends the symbols; the one that it
        cuts counts as a whole.
        """
        symbols = self._source.stream(split).symbols
        most_chars = self._config.max_chars(split)
        if most_chars is not None:
            begins = np.concatenate([[0], _ends(symbols)[:-1] + 1])
            symbols = symbols[begins < most_chars]
        nats = self._source.tables.filter(symbols).nll * len(symbols)
        return nats / math.log(2) / len(_text(symbols))


def _text(symbols: np.ndarray) -> str:
    """symbols [N] -> the text, which is ASCII."""
    return " ".join(map(str, symbols.tolist()))


def _ends(symbols: np.ndarray) -> np.ndarray:
    """symbols [N] -> [N] where each number ends in the text, in bytes; the space before it belongs to it."""
    digits = np.ones(len(symbols), dtype=np.int64)
    power = 10
    while (longer := symbols >= power).any():
        digits += longer
        power *= 10
    return np.cumsum(digits + 1) - 1
