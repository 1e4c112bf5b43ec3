"""Storyworld as a source: a fixed number of seeded stories for each split."""

import math
from collections.abc import Generator, Iterator

import numpy as np

from apelr_data.config import DataConfig, Split
from apelr_data.sources.protocol import PlannedDocument, RawDocument
from apelr_data.storyworld import BEATS, Story, generate_story

TRAIN_STORIES = 20_000
VALIDATION_STORIES = 500


class StoriesSource:
    """Stories 0, 1, 2 … of each split; a cap on the examples also lifts or lowers their number."""

    local = True
    plan_names = BEATS

    def __init__(self, config: DataConfig, seed: int) -> None:
        """`seed` picks the stories."""
        self._config = config
        self._seed = seed

    def read(self, split: Split) -> Generator[RawDocument]:
        """The stories in order."""
        for story in self._stories(split):
            yield RawDocument(story.text, by_hash=False)

    def planned(self, split: Split) -> Iterator[PlannedDocument]:
        """The stories in order, each sentence with its beat."""
        for story in self._stories(split):
            sizes = [len(story.text[span.start : span.end].encode("utf-8")) for span in story.spans]
            beats = [BEATS.index(span.beat) for span in story.spans]
            yield PlannedDocument(story.text, np.cumsum(sizes), np.array(beats, dtype=np.int64))

    def bits_per_byte(self, split: Split) -> float:
        """The exact -log2 probability of the stories of a split by their UTF-8 bytes, in all.

        A cap on the characters ends the stories; the one that it cuts counts as a whole.
        """
        most_chars = self._config.max_chars(split)
        nats, chars, size = 0.0, 0, 0
        for story in self._stories(split):
            nats -= story.log_prob
            chars += len(story.text)
            size += len(story.text.encode("utf-8"))
            if most_chars is not None and chars >= most_chars:
                break
        return nats / math.log(2) / size

    def _stories(self, split: Split) -> Iterator[Story]:
        """As many stories as the cap on examples says, or the default number."""
        count = self._config.max_examples(split) or (TRAIN_STORIES if split == "train" else VALIDATION_STORIES)
        return (generate_story(self._seed, split, index) for index in range(count))
