"""Story grammars: a Markov chain over beats writes one sentence at a time. Sampling and exact probabilities.

A story picks one entity for every bound slot, then a first beat; each sentence draws a template of its beat,
fills the local slots, and moves on to the next beat or ends. `Grammar` knows nothing of English.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import and_
from typing import TypeVar

from apelr_data.storyworld_template import Entities, Fillers, Reading, Template

T = TypeVar("T")
_SENTENCE_GAP = re.compile(r"(?<=[.!?]) |(?<=[.!?]\") ")


@dataclass(frozen=True, kw_only=True)
class GrammarSpec:
    """What a grammar is made of; `Grammar` checks and compiles it."""

    beats: tuple[str, ...]
    """The B beats of the planted plan."""
    initial: tuple[float, ...]
    """[B] probability of the first sentence's beat."""
    transitions: tuple[tuple[float, ...], ...]
    """[B, B + 1] probability of the next sentence's beat; the last column is the end of the story."""
    entities: Entities
    """Bound slot -> its entities, each a mapping from form to text."""
    fillers: Fillers
    """Local slot -> its fillers."""
    templates: Mapping[str, Mapping[str, float]]
    """Beat -> template -> weight; a template may serve several beats."""


class Grammar:
    """A compiled grammar. Raises ValueError when the specification is no proper story source."""

    def __init__(self, spec: GrammarSpec) -> None:
        _check_chain(spec)
        self.beats = spec.beats
        self._initial = spec.initial
        self._following = [  # per beat: (next beat, or B for the end; probability > 0)
            [(target, probability) for target, probability in enumerate(row) if probability > 0]
            for row in spec.transitions
        ]
        self._entity_counts = [len(forms) for forms in spec.entities.values()]
        sources = dict.fromkeys(source for beat in spec.beats for source in spec.templates[beat])
        self.templates = [Template(index, source, spec.entities, spec.fillers) for index, source in enumerate(sources)]
        self._weights = [_normalised(spec.templates[beat]) for beat in spec.beats]
        self._emissions = [  # per template: (beat, P(template and its local fillers | beat))
            [(beat, weights[t.source] * t.local_probability) for beat, weights in enumerate(self._weights)
             if t.source in weights]
            for t in self.templates
        ]  # fmt: skip
        self._index: dict[tuple[str, str], list[Template]] = {}
        for template in self.templates:
            for first in template.first_words():
                for last in template.last_words():
                    self._index.setdefault((first, last), []).append(template)
        by_source = {template.source: template for template in self.templates}
        self._draw_first = _picker(range(len(self.beats)), self._initial)
        self._draw_next = [_picker(range(len(self.beats) + 1), row) for row in spec.transitions]
        self._draw_template = [
            _picker([by_source[source] for source in weights], list(weights.values())) for weights in self._weights
        ]

    def draw(self, uniform: Callable[[], float]) -> tuple[list[str], list[int]]:
        """A story's sentences and their beats; `uniform` draws from [0, 1)."""
        entities = [int(uniform() * count) for count in self._entity_counts]
        sentences: list[str] = []
        beats: list[int] = []
        beat = self._draw_first(uniform())
        while beat < len(self.beats):
            beats.append(beat)
            sentences.append(self._draw_template[beat](uniform()).write(entities, uniform))
            beat = self._draw_next[beat](uniform())
        return sentences, beats

    def readings(self, sentence: str) -> list[Reading]:
        """Every derivation of the sentence: which template, and which entities fit."""
        edges = sentence.partition(" ")[0], sentence.rpartition(" ")[2]
        found = [template.read(sentence) for template in self._index.get(edges, ())]
        return [reading for reading in found if reading is not None]

    def sentence_log_probs(self, sentence: str) -> tuple[float, ...]:
        """[B] natural log of P(sentence | beat) for a story's only sentence, whoever the story is about."""
        totals = [0.0] * len(self.beats)
        for reading in self.readings(sentence):
            for beat, probability in self._emissions[reading.template]:
                totals[beat] += probability * self._prior(reading.entities)
        return tuple(map(_log, totals))

    def log_prob(self, text: str) -> float:
        """Natural log of P(text), summed over every derivation; -inf for a text that cannot occur.

        A forward recursion over pairs of a beat and, for each bound slot, the set of entities that fit the
        sentences so far. Such a box of entities stands for all bindings inside it, and its prior
        probability is the product over slots, so that no binding has to be listed. The weights are rescaled
        after every sentence.
        """
        everyone = tuple((1 << count) - 1 for count in self._entity_counts)
        predicted = {everyone: dict(enumerate(self._initial))}
        log_scale = 0.0
        filtered: dict[tuple[int, ...], dict[int, float]] = {}
        for sentence in split_sentences(text):
            filtered = self._condition(predicted, self.readings(sentence))
            scale = sum(sum(weights.values()) for weights in filtered.values())
            if scale == 0:
                return -math.inf
            log_scale += math.log(scale)
            predicted = {box: self._advance(weights, scale) for box, weights in filtered.items()}
        stop = len(self.beats)
        ended = sum(weights.get(stop, 0.0) * self._prior(box) for box, weights in predicted.items())
        return log_scale + _log(ended)

    def _condition(
        self, predicted: dict[tuple[int, ...], dict[int, float]], readings: Sequence[Reading]
    ) -> dict[tuple[int, ...], dict[int, float]]:
        """Weights of (box, beat) before a sentence -> after it."""
        filtered: dict[tuple[int, ...], dict[int, float]] = {}
        for box, weights in predicted.items():
            for template, entities in readings:
                joint = tuple(map(and_, box, entities))
                if 0 in joint:
                    continue
                for beat, probability in self._emissions[template]:
                    if weights.get(beat):
                        target = filtered.setdefault(joint, {})
                        target[beat] = target.get(beat, 0.0) + weights[beat] * probability
        return filtered

    def _advance(self, weights: dict[int, float], scale: float) -> dict[int, float]:
        """Weights of the beats of one sentence -> of the next one, with index B for the end of the story."""
        following: dict[int, float] = {}
        for beat, weight in weights.items():
            for target, probability in self._following[beat]:
                following[target] = following.get(target, 0.0) + weight / scale * probability
        return following

    def _prior(self, box: tuple[int, ...]) -> float:
        """Probability that the story's entities lie in the box."""
        return math.prod(mask.bit_count() / count for mask, count in zip(box, self._entity_counts, strict=True))


def split_sentences(text: str) -> list[str]:
    """The text's sentences; joined by single spaces they are the text again."""
    return _SENTENCE_GAP.split(text)


def _check_chain(spec: GrammarSpec) -> None:
    """Raise ValueError with one line for each rule of the chain that is broken."""
    size = len(spec.beats)
    rows = {"initial": spec.initial} | {
        f"transitions[{b}]": row for b, row in zip(spec.beats, spec.transitions, strict=False)
    }
    shape = [size, *(size + 1 for _ in spec.beats)]
    broken = [
        f"{name} must hold {width} probabilities that sum to 1, got {row!r}"
        for (name, row), width in zip(rows.items(), shape, strict=False)
        if len(row) != width or not all(p >= 0 for p in row) or not abs(sum(row) - 1) < 1e-9
    ]
    if len(rows) != len(shape):
        broken.append(f"transitions must have {size} rows, got {len(spec.transitions)}")
    for beat in spec.beats:
        weights = spec.templates.get(beat, {})
        if not weights or not all(0 < weight < math.inf for weight in weights.values()):
            broken.append(f"templates of {beat!r} must be some, with weights > 0, got {dict(weights)!r}")
    if not broken:
        reached = {b for b, p in enumerate(spec.initial) if p > 0}
        ending = {b for b, row in enumerate(spec.transitions) if row[size] > 0}
        for _ in spec.beats:
            reached |= {t for b in reached for t in range(size) if spec.transitions[b][t] > 0}
            ending |= {b for b in range(size) if any(spec.transitions[b][t] > 0 for t in ending)}
        broken += [
            f"beat {beat!r} must be reachable and able to end"
            for b, beat in enumerate(spec.beats)
            if b not in reached or b not in ending
        ]
    if broken:
        raise ValueError("\n".join(broken))


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {source: weight / total for source, weight in weights.items()}


def _picker(values: Sequence[T], probabilities: Sequence[float]) -> Callable[[float], T]:
    """A function from a uniform number in [0, 1) to a value; values of probability 0 never come."""
    possible = [(value, p) for value, p in zip(values, probabilities, strict=True) if p > 0]
    bounds = list(accumulate(p for _, p in possible))[:-1]
    chosen = [value for value, _ in possible]
    return lambda number: chosen[bisect_right(bounds, number)]


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf
