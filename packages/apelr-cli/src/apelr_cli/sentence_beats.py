"""Which of storyworld's beats texts belong to, sentence by sentence."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from apelr_data import BEATS, sentence_beat_log_probs, split_sentences

__all__ = ["BeatCounts", "count_beats"]


class BeatCounts(NamedTuple):
    """Sentences of some texts."""

    beats: tuple[int, ...]
    """[beats] sentences by their most probable beat (of equally probable ones the first), in the order of `BEATS`."""
    impossible: int
    """Sentences that no story contains."""


def count_beats(texts: Sequence[str], *, complete: Sequence[bool]) -> BeatCounts:
    """Texts, and whether each has come to its end -> what their sentences are. An unfinished one's last is left out."""
    counts, impossible = [0] * len(BEATS), 0
    for text, whole in zip(texts, complete, strict=True):
        sentences = split_sentences(text.strip())
        for sentence in sentences if whole else sentences[:-1]:
            log_probs = sentence_beat_log_probs(sentence)
            best = max(log_probs)
            if best == -math.inf:
                impossible += 1
            else:
                counts[log_probs.index(best)] += 1
    return BeatCounts(tuple(counts), impossible)
