"""One sentence template of a story grammar: write a sentence from it, or read the slots back out of one.

A template is a sentence with blanks:

- `{mood}` is a local slot: one filler is drawn uniformly, anew at every use;
- `{hero}` is a bound slot: every story picks one entity for it, uniformly, and keeps it; `{hero}` is the
  entity's form `name`, `{hero.their}` another of its forms;
- `{Mood}` and `{Hero.their}` capitalise the first letter; `{a mood}`, `{A mood}` put *a* or *an* before it.
"""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import pairwise, permutations
from typing import NamedTuple

_BLANK = re.compile(r"\{(?:([aA]) )?(\w+)(?:\.(\w+))?\}")
_SENTENCE = re.compile(r"[^.!?\s](?:[^.!?\s]| (?! ))*[.!?]\"?")
_FILLER = re.compile(r"[^.!?\s\"{}]+(?: [^.!?\s\"{}]+)*")

Entities = Mapping[str, tuple[Mapping[str, str], ...]]
Fillers = Mapping[str, tuple[str, ...]]


class Blank(NamedTuple):
    """A blank of a template with every text that it can hold."""

    slot: int
    """Index of the bound slot, or -1 for a local slot."""
    texts: tuple[str, ...]
    """The text for each entity (bound) or each filler (local)."""


class Reading(NamedTuple):
    """One way to derive a sentence."""

    template: int
    """Index of the template."""
    entities: tuple[int, ...]
    """For every bound slot the set of entities that fit the sentence, as a bit mask."""


class Template:
    """A compiled template: no sentence can be read from it in two ways, so `read` finds the only one.

    Raises ValueError when a slot or form is unknown, when a sentence would not end in one end mark, or when
    two fillers would make the template ambiguous.
    """

    def __init__(self, index: int, source: str, entities: Entities, fillers: Fillers) -> None:
        self.index = index
        self.source = source
        slots = list(entities)
        pieces = _BLANK.split(source)
        self.literals = tuple(pieces[::4])
        self.blanks = tuple(
            _blank(source, slots, entities, fillers, *pieces[start : start + 3]) for start in range(1, len(pieces), 4)
        )
        self.pattern = "%s".join(literal.replace("%", "%%") for literal in self.literals)
        self.local_probability = 1.0
        for blank in self.blanks:
            if blank.slot < 0:
                self.local_probability /= len(blank.texts)
        self._anyone = tuple((1 << len(forms)) - 1 for forms in entities.values())
        self._masks = tuple(
            (group, blank.slot, _entity_masks(blank.texts))
            for group, blank in enumerate(self.blanks, start=1)
            if blank.slot >= 0
        )
        self._check()

    def write(self, entities: list[int], uniform: Callable[[], float]) -> str:
        """A sentence about the given entities (one index a bound slot); `uniform` draws from [0, 1)."""
        return self.pattern % tuple(
            [texts[entities[slot]] if slot >= 0 else texts[int(uniform() * len(texts))] for slot, texts in self.blanks]
        )

    def read(self, sentence: str) -> Reading | None:
        """The derivation of the sentence from this template, or None when there is none."""
        match = self._expression.fullmatch(sentence)
        if match is None:
            return None
        entities = list(self._anyone)
        for group, slot, masks in self._masks:
            entities[slot] &= masks[match[group]]
            if not entities[slot]:
                return None
        return Reading(self.index, tuple(entities))

    def first_words(self) -> set[str]:
        """Every word that a sentence of this template can begin with."""
        return {text.partition(" ")[0] for text in self._edge(1)}

    def last_words(self) -> set[str]:
        """Every word that a sentence of this template can end with, end mark included."""
        return {text.rpartition(" ")[2] for text in self._edge(-1)}

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        groups = ["(" + "|".join(map(re.escape, dict.fromkeys(blank.texts))) + ")" for blank in self.blanks]
        literals = [re.escape(literal) for literal in self.literals]
        return re.compile("".join(a + b for a, b in zip(literals, [*groups, ""], strict=True)))

    def _edge(self, direction: int) -> set[str]:
        """Beginnings (direction 1) or ends (-1) of the sentences, each long enough to hold a whole word."""
        parts: list[tuple[str, ...]] = [(self.literals[0],)]
        for blank, literal in zip(self.blanks, self.literals[1:], strict=True):
            parts += [blank.texts, (literal,)]
        edge = {""}
        for part in parts[::direction]:
            short = {text for text in edge if " " not in text}
            grown = {text + more if direction > 0 else more + text for text in short for more in part}
            edge = (edge - short) | grown
        return edge

    def _check(self) -> None:
        blanked = "x".join(self.literals)
        if not _SENTENCE.fullmatch(blanked):
            raise ValueError(f"template {self.source!r} must be one sentence with one end mark, at its end")
        if any(brace in blanked for brace in "{}"):
            raise ValueError(f"template {self.source!r} must hold well-formed blanks only")
        for left, right in pairwise(range(len(self.literals))):
            texts = dict.fromkeys(self.blanks[left].texts)
            after = self.literals[right]
            for one, other in permutations([text + after for text in texts], 2):
                if not after or other.startswith(one):
                    raise ValueError(f"template {self.source!r} can be read in two ways at blank {left + 1}")


def _blank(
    source: str,
    slots: list[str],
    entities: Entities,
    fillers: Fillers,
    article: str | None,
    name: str,
    form: str | None,
) -> Blank:
    """The blank `{article name.form}` with its texts."""
    slot = name[0].lower() + name[1:]
    if slot in entities:
        missing = [forms["name"] for forms in entities[slot] if (form or "name") not in forms]
        if missing:
            raise ValueError(f"template {source!r}: {slot}.{form} is missing for {', '.join(missing)}")
        texts = tuple(forms[form or "name"] for forms in entities[slot])
    elif slot in fillers and form is None:
        texts = fillers[slot]
    else:
        raise ValueError(f"template {source!r} names the unknown slot {name!r}")
    if not all(_FILLER.fullmatch(text) for text in texts):
        raise ValueError(f"slot {slot!r} must hold words parted by single spaces, without end marks")
    if name != slot:
        texts = tuple(text[0].upper() + text[1:] for text in texts)
    if article is not None:
        texts = tuple(f"{article}{'n' if text[0] in 'aeiouAEIOU' else ''} {text}" for text in texts)
    if slot in fillers and len(set(texts)) < len(texts):
        raise ValueError(f"slot {slot!r} must hold different fillers")
    return Blank(slots.index(slot) if slot in entities else -1, texts)


def _entity_masks(texts: tuple[str, ...]) -> dict[str, int]:
    """Text -> bit mask of the entities that it can stand for."""
    masks: dict[str, int] = dict.fromkeys(texts, 0)
    for entity, text in enumerate(texts):
        masks[text] |= 1 << entity
    return masks
