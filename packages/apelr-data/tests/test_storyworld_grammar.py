"""The story machinery on small grammars: every probability against an enumeration of all derivations."""

import itertools
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import pytest

from apelr_data.storyworld_grammar import Grammar, GrammarSpec, split_sentences

SMALL = GrammarSpec(
    beats=("begin", "middle", "finish"),
    initial=(0.75, 0.25, 0.0),
    transitions=((0.5, 0.3, 0.2, 0.0), (0.1, 0.4, 0.25, 0.25), (0.0, 0.2, 0.3, 0.5)),
    entities={
        "hero": (
            {"name": "Ann", "their": "her"},
            {"name": "Eve", "their": "her"},
            {"name": "Bob", "their": "his"},
        ),
        "pet": ({"name": "cat"}, {"name": "owl"}),
    },
    fillers={"mood": ("glad", "odd"), "time": ("at once", "soon", "at last")},
    templates={
        "begin": {"{Hero} had {a pet}.": 2.0, "It was {a mood} day.": 1.0, "Ann saw the {pet}.": 0.5},
        "middle": {"{Hero} saw the {pet}.": 1.0, '{Time}, {hero} said, "I see."': 1.0, "It was {a mood} day.": 2.0},
        "finish": {"{Hero} fed {hero.their} {pet} {time}!": 1.0, "It was {a mood} day.": 1.0, "{A pet} ran.": 1.0},
    },
)  # fmt: skip

ACYCLIC = replace(SMALL, transitions=((0.0, 0.6, 0.4, 0.0), (0.0, 0.0, 0.75, 0.25), (0.0, 0.0, 0.0, 1.0)))


def expansions(spec: GrammarSpec, source: str, bindings: dict[str, int]) -> Iterator[tuple[str, float]]:
    """Every sentence of a template for fixed bindings, with its probability; written apart from the package."""
    blank = re.search(r"\{(a |A |)(\w)(\w*)\.?(\w*)\}", source)
    if blank is None:
        yield source, 1.0
        return
    slot = blank[2].lower() + blank[3]
    entity = spec.entities[slot][bindings[slot]] if slot in bindings else None
    texts = [entity[blank[4] or "name"]] if entity else list(spec.fillers[slot])
    for text in texts:
        word = text.capitalize() if blank[2].isupper() else text
        article = blank[1].strip() and (blank[1].strip() + ("n " if word[0].lower() in "aeiou" else " "))
        filled = source[: blank.start()] + article + word + source[blank.end() :]
        for sentence, probability in expansions(spec, filled, bindings):
            yield sentence, probability / len(texts)


def all_texts(spec: GrammarSpec, most: int) -> dict[str, float]:
    """Text -> probability for all texts of at most `most` sentences, by listing every derivation."""
    texts: dict[str, float] = defaultdict(float)
    size = len(spec.beats)
    for entities in itertools.product(*(range(len(forms)) for forms in spec.entities.values())):
        bindings = dict(zip(spec.entities, entities, strict=True))
        prior = math.prod(1 / len(forms) for forms in spec.entities.values())
        emissions = [
            [
                (sentence, weight / sum(spec.templates[beat].values()) * probability)
                for source, weight in spec.templates[beat].items()
                for sentence, probability in expansions(spec, source, bindings)
            ]
            for beat in spec.beats
        ]
        for length in range(1, most + 1):
            for path in itertools.product(range(size), repeat=length):
                chain = prior * spec.initial[path[0]] * spec.transitions[path[-1]][size]
                chain *= math.prod(spec.transitions[one][two] for one, two in itertools.pairwise(path))
                if chain == 0:
                    continue
                for choice in itertools.product(*(emissions[beat] for beat in path)):
                    text = " ".join(sentence for sentence, _ in choice)
                    texts[text] += chain * math.prod(probability for _, probability in choice)
    return texts


@pytest.mark.parametrize("spec", [SMALL, ACYCLIC], ids=["cyclic", "acyclic"])
def test_log_prob_equals_the_sum_over_all_derivations(spec: GrammarSpec) -> None:
    grammar = Grammar(spec)
    texts = all_texts(spec, 2)
    assert len(texts) > 300
    for text, probability in texts.items():
        assert math.exp(grammar.log_prob(text)) == pytest.approx(probability, rel=1e-10)


def test_log_prob_of_longer_texts_equals_the_sum_over_all_derivations() -> None:
    grammar = Grammar(SMALL)
    texts = all_texts(SMALL, 3)
    assert len(texts) > 5000
    for text in random.Random(5).sample(sorted(texts), 2000):
        assert grammar.log_prob(text) == pytest.approx(math.log(texts[text]), abs=1e-10)


def test_probabilities_of_all_texts_sum_to_one() -> None:
    grammar = Grammar(ACYCLIC)
    texts = all_texts(ACYCLIC, 3)
    assert math.fsum(math.exp(grammar.log_prob(text)) for text in texts) == pytest.approx(1.0, abs=1e-12)


def test_several_templates_beats_and_bindings_stand_behind_one_text() -> None:
    grammar = Grammar(SMALL)
    assert len(grammar.readings("Ann saw the owl.")) == 2
    assert len(grammar.readings("Bob saw the owl.")) == 1
    ambiguous = "It was an odd day. Ann saw the owl."
    assert math.exp(grammar.log_prob(ambiguous)) == pytest.approx(all_texts(SMALL, 2)[ambiguous], rel=1e-12)


def test_impossible_texts_have_no_probability() -> None:
    grammar = Grammar(SMALL)
    impossible = [
        "",
        "It was an odd day",
        "It was a odd day.",
        "it was an odd day.",
        "It was an odd day.  It was an odd day.",
        " It was an odd day.",
        "Ann had a cat. Bob had a cat. Eve fed her cat soon!",
        "Ann had a cat. Ann fed her owl soon!",
        "Bob fed her cat soon!",
        "Ann had a cat.",  # the story may not end here
    ]
    assert [grammar.log_prob(text) for text in impossible] == [-math.inf] * len(impossible)
    assert grammar.log_prob("Ann had a cat. Ann fed her cat soon!") > -math.inf


def test_frequencies_of_drawn_texts_match_their_probabilities() -> None:
    grammar = Grammar(ACYCLIC)
    uniform = random.Random(0).random
    count = 30_000
    drawn = Counter(" ".join(grammar.draw(uniform)[0]) for _ in range(count))
    for text, probability in all_texts(ACYCLIC, 2).items():
        spread = math.sqrt(count * probability * (1 - probability))
        assert abs(drawn[text] - count * probability) < 6 * spread + 1


def test_sentence_log_probs_sum_over_all_bindings() -> None:
    grammar = Grammar(SMALL)
    begin, middle, finish = (math.exp(value) for value in grammar.sentence_log_probs("Ann saw the owl."))
    assert begin == pytest.approx(0.5 / 3.5 / 2)
    assert middle == pytest.approx(1 / 4 / 6)
    assert finish == 0


def test_long_texts_do_not_underflow() -> None:
    grammar = Grammar(SMALL)
    once, twice = (grammar.log_prob(" ".join(["Bob saw the owl."] * n)) for n in (2000, 4000))
    one_more = grammar.log_prob(" ".join(["Bob saw the owl."] * 2001)) - once
    assert twice == pytest.approx(once + 2000 * one_more, rel=1e-9)
    assert twice < -4000


def test_split_sentences_can_be_undone() -> None:
    text = 'Ann had a cat. Soon, Ann said, "I see." Ann fed her cat soon! It was an odd day.'
    assert split_sentences(text) == [
        "Ann had a cat.",
        'Soon, Ann said, "I see."',
        "Ann fed her cat soon!",
        "It was an odd day.",
    ]
    assert " ".join(split_sentences("odd  spaces. . ")) == "odd  spaces. . "


def template_error(source: str, **fillers: tuple[str, ...]) -> str:
    templates = {**SMALL.templates, "begin": {source: 1.0}}
    with pytest.raises(ValueError) as caught:
        Grammar(replace(SMALL, templates=templates, fillers={**SMALL.fillers, **fillers}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "fillers", "message"),
    [
        ("Ann {sang}.", {}, "template 'Ann {sang}.' names the unknown slot 'sang'"),
        ("{mood.their} day.", {}, "template '{mood.their} day.' names the unknown slot 'mood'"),
        ("{pet.their} day.", {}, "template '{pet.their} day.': pet.their is missing for cat, owl"),
        ("No end", {}, "template 'No end' must be one sentence with one end mark, at its end"),
        ("Two. Ends.", {}, "template 'Two. Ends.' must be one sentence with one end mark, at its end"),
        ("Two  spaces.", {}, "template 'Two  spaces.' must be one sentence with one end mark, at its end"),
        ("A {mood.", {}, "template 'A {mood.' must hold well-formed blanks only"),
        ("{mood}{time}.", {}, "template '{mood}{time}.' can be read in two ways at blank 1"),
        ("{x} {y}.", {"x": ("a", "a b"), "y": ("c", "b c")}, "template '{x} {y}.' can be read in two ways at blank 1"),
        ("{x}.", {"x": ("a", "a")}, "slot 'x' must hold different fillers"),
        ("{x}.", {"x": ("a.",)}, "slot 'x' must hold words parted by single spaces, without end marks"),
        ("{x}.", {"x": ("",)}, "slot 'x' must hold words parted by single spaces, without end marks"),
    ],
)  # fmt: skip
def test_broken_templates_are_refused(source: str, fillers: dict[str, tuple[str, ...]], message: str) -> None:
    assert template_error(source, **fillers) == message


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"initial": (0.5, 0.4, 0.0)}, ["initial must hold 3 probabilities that sum to 1, got (0.5, 0.4, 0.0)"]),
        (
            {"transitions": ((0.5, 0.5, 0.0), (0.1, 0.4, 0.25, math.nan), (-0.5, 1.0, 0.0, 0.5))},
            [
                "transitions[begin] must hold 4 probabilities that sum to 1, got (0.5, 0.5, 0.0)",
                "transitions[middle] must hold 4 probabilities that sum to 1, got (0.1, 0.4, 0.25, nan)",
                "transitions[finish] must hold 4 probabilities that sum to 1, got (-0.5, 1.0, 0.0, 0.5)",
            ],
        ),
        ({"transitions": SMALL.transitions[:2]}, ["transitions must have 3 rows, got 2"]),
        (
            {"transitions": ((0.5, 0.5, 0.0, 0.0), (0.5, 0.0, 0.0, 0.5), (0.0, 0.0, 1.0, 0.0))},
            ["beat 'finish' must be reachable and able to end"],
        ),
        (
            {"templates": {**SMALL.templates, "begin": {}, "middle": {"One.": 0.0}}},
            [
                "templates of 'begin' must be some, with weights > 0, got {}",
                "templates of 'middle' must be some, with weights > 0, got {'One.': 0.0}",
            ],
        ),
    ],
)  # fmt: skip
def test_broken_chains_are_refused(changes: dict[str, object], messages: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        Grammar(replace(SMALL, **changes))
    assert str(caught.value).splitlines() == messages
