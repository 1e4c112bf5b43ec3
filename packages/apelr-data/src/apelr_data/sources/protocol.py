"""What a source promises: raw documents of one split, in the same order every time."""

from collections.abc import Generator
from typing import NamedTuple, Protocol

import numpy as np

from apelr_data.config import Split


class RawDocument(NamedTuple):
    """A document before cleaning, and whether its split is still open."""

    text: str
    "The text as read; an undecodable byte is a surrogate U+DC80..U+DCFF."
    by_hash: bool
    "True when a hash of the cleaned text decides the split; False when the source has already chosen."


class PlannedDocument(NamedTuple):
    """A document of a source whose plans are known, with the plan of each stretch of it."""

    text: str
    "The text, which cleaning leaves as it is."
    ends: np.ndarray
    "int64 [S], the UTF-8 byte behind each stretch; together they cover the text."
    plans: np.ndarray
    "int64 [S], the plan of each stretch."


class Source(Protocol):
    """An iterable of raw documents; reading it again starts from the first document."""

    @property
    def local(self) -> bool:
        """Whether it lies on this machine, so that reading its beginning twice costs little."""
        ...

    def read(self, split: Split) -> Generator[RawDocument]:
        """The documents of `split`, and with them every document whose split a hash decides; to be closed."""
        ...
