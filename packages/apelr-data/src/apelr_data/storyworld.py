"""The storyworld source: seeded English stories that follow a planted plan, with exact probabilities.

Every story is drawn from one grammar, sentence by sentence, along a Markov chain over beats. SHA-256 of the
text decides its split, so that no text is in both; a candidate of the other split is dropped and drawn anew.

All log-probabilities are those of the source itself, before a split is chosen: what a perfect model of the
stories gives, and the floor for every model that does not compute the hash. A split's own distribution is the
source's, restricted and divided by P(split) = 3/4 (training) or 1/4 (validation): a model that did compute
the hash could gain exactly `-log2 P(split)`, 0.415 or 2 bits a story. (P(split) is a sum over the texts, each
of them far too rare to move it from its share of the hash values.)
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple, get_args

from apelr_data.config import Split
from apelr_data.storyworld_beats import BEATS, INITIAL, TEMPLATES, TRANSITIONS
from apelr_data.storyworld_grammar import Grammar, GrammarSpec, split_sentences
from apelr_data.storyworld_words import ENTITIES, FILLERS

__all__ = [
    "BEATS",
    "INITIAL",
    "TRANSITIONS",
    "VALIDATION_SHARE",
    "Span",
    "Story",
    "generate_story",
    "sentence_beat_log_probs",
    "sentence_is_possible",
    "split_of",
    "split_sentences",
    "stories",
    "story_log_prob",
]

VALIDATION_SHARE = 0.25
"""P(validation): the share of all hash values that belongs to the validation split."""


class Span(NamedTuple):
    """One sentence of a story: characters start to end, the space before the sentence included."""

    start: int
    end: int
    beat: str


@dataclass(frozen=True)
class Story:
    """A story with its gold plan."""

    text: str
    """The sentences, joined by single spaces."""
    spans: tuple[Span, ...]
    """One span a sentence; together they cover every character of the text once, in order."""

    @cached_property
    def log_prob(self) -> float:
        """`story_log_prob` of the text, worked out when it is first asked for."""
        return story_log_prob(self.text)


def generate_story(seed: int, split: Split, index: int) -> Story:
    """Story number `index` of a split: a pure function of its arguments. Raises ValueError for bad ones."""
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
    if index < 0:
        raise ValueError(f"index must be >= 0, got {index!r}")
    key = hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()
    uniform = random.Random(int.from_bytes(key, "big")).random
    while True:
        sentences, beats = english_grammar().draw(uniform)
        text = " ".join(sentences)
        if split_of(text) == split:
            return Story(text, _spans(sentences, beats))


def stories(seed: int, split: Split, count: int) -> Iterator[Story]:
    """The split's first `count` stories."""
    return (generate_story(seed, split, index) for index in range(count))


def split_of(text: str) -> Split:
    """The split that a text belongs to, by its SHA-256."""
    share = hashlib.sha256(text.encode()).digest()[0] / 256
    return "validation" if share < VALIDATION_SHARE else "train"


def story_log_prob(text: str) -> float:
    """Natural log of the probability that the source writes this text; -inf when it cannot.

    The sum runs over all beat paths, templates and slot choices; see `Grammar.log_prob`.
    """
    return english_grammar().log_prob(text)


def sentence_is_possible(sentence: str) -> bool:
    """Whether some story contains this sentence."""
    return bool(english_grammar().readings(sentence))


def sentence_beat_log_probs(sentence: str) -> tuple[float, ...]:
    """Natural log of P(sentence | beat) for each of `BEATS`, summed over all that a story can be about."""
    return english_grammar().sentence_log_probs(sentence)


@cache
def english_grammar() -> Grammar:
    """The English grammar, compiled at first use."""
    return Grammar(
        GrammarSpec(
            beats=BEATS,
            initial=INITIAL,
            transitions=TRANSITIONS,
            entities=ENTITIES,
            fillers=FILLERS,
            templates=TEMPLATES,
        )
    )


def _spans(sentences: list[str], beats: list[int]) -> tuple[Span, ...]:
    """One span a sentence; the space between two sentences belongs to the second."""
    bounds = [0]
    for position, sentence in enumerate(sentences):
        bounds.append(bounds[-1] + len(sentence) + (position > 0))
    return tuple(Span(start, end, BEATS[beat]) for (start, end), beat in zip(pairwise(bounds), beats, strict=True))
