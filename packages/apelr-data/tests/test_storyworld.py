"""The storyworld source: determinism, exact probabilities, gold beats, splits and the English itself."""

import hashlib
import itertools
import math
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_data.storyworld import (
    BEATS,
    INITIAL,
    TRANSITIONS,
    VALIDATION_SHARE,
    Story,
    english_grammar,
    generate_story,
    sentence_beat_log_probs,
    sentence_is_possible,
    split_of,
    split_sentences,
    stories,
    story_log_prob,
)
from apelr_data.storyworld_beats import TEMPLATES
from apelr_data.storyworld_words import ENTITIES, FILLERS


@pytest.fixture(scope="module")
def train() -> list[Story]:
    return list(stories(0, "train", 2000))


@pytest.fixture(scope="module")
def validation() -> list[Story]:
    return list(stories(0, "validation", 500))


GOLDEN = {
    (0, "train", 0): "7fec633916822b0784182142b33992a31460091641a75e16c10cbb45eb1fe6af",
    (0, "validation", 0): "00ccf04cd179f9d4590b28e59e9ca4b1ed23a832d666275039882e98f85c28db",
    (7, "train", 12345): "c45a754cbda4775eba18451d76564a38607d1a023179b84a4e9115cb6e8293cb",
}


@pytest.mark.parametrize("arguments", GOLDEN)
def test_stories_are_the_same_everywhere(arguments: tuple[int, str, int]) -> None:
    text = generate_story(*arguments).text
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[arguments]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64), st.sampled_from(["train", "validation"]), st.integers(0, 2**40))
def test_a_story_is_a_function_of_its_arguments_with_a_beat_for_every_character(seed, split, index) -> None:
    story = generate_story(seed, split, index)
    assert story == generate_story(seed, split, index)
    assert split_of(story.text) == split
    assert [span.start for span in story.spans] == [0, *(span.end for span in story.spans[:-1])]
    assert story.spans[-1].end == len(story.text)
    assert "".join(story.text[span.start : span.end] for span in story.spans) == story.text
    assert [story.text[span.start : span.end].strip() for span in story.spans] == split_sentences(story.text)
    assert all(story.text[span.start] == " " for span in story.spans[1:])
    chain = [BEATS.index(span.beat) for span in story.spans]
    assert INITIAL[chain[0]] > 0
    assert TRANSITIONS[chain[-1]][len(BEATS)] > 0
    assert all(TRANSITIONS[one][two] > 0 for one, two in itertools.pairwise(chain))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^split must be one of train, validation, got 'test'$"):
        generate_story(0, "test", 0)
    with pytest.raises(ValueError, match=r"^index must be >= 0, got -1$"):
        generate_story(0, "train", -1)


def test_train_and_validation_never_coincide(train: list[Story], validation: list[Story]) -> None:
    texts = [story.text for story in train], [story.text for story in validation]
    assert not set(texts[0]) & set(texts[1])
    assert len(set(texts[0])) == len(texts[0])
    assert len(set(texts[1])) == len(texts[1])
    assert {split_of(text) for text in texts[0]} == {"train"}
    assert {split_of(text) for text in texts[1]} == {"validation"}


def test_the_splits_share_the_source_in_the_stated_proportion() -> None:
    uniform = random.Random(1).random
    count = 4000
    held_out = sum(split_of(" ".join(english_grammar().draw(uniform)[0])) == "validation" for _ in range(count))
    spread = math.sqrt(count * VALIDATION_SHARE * (1 - VALIDATION_SHARE))
    assert abs(held_out - count * VALIDATION_SHARE) < 4 * spread


def test_no_text_is_likely_enough_to_move_the_share_of_a_split(validation: list[Story]) -> None:
    assert max(story.log_prob for story in validation) < -50


def test_beats_follow_the_published_chain(train: list[Story]) -> None:
    paths = [[*(BEATS.index(span.beat) for span in story.spans), len(BEATS)] for story in train]
    steps = Counter(pair for path in paths for pair in itertools.pairwise(path))
    firsts = Counter(path[0] for path in paths)
    for beat, row in enumerate(TRANSITIONS):
        visits = sum(steps[beat, target] for target in range(len(BEATS) + 1))
        for target, probability in enumerate(row):
            spread = math.sqrt(visits * probability * (1 - probability))
            assert abs(steps[beat, target] - visits * probability) <= 5 * spread
    for beat, probability in enumerate(INITIAL):
        spread = math.sqrt(len(train) * probability * (1 - probability))
        assert abs(firsts[beat] - len(train) * probability) <= 5 * spread


def test_stories_have_a_few_hundred_words_and_beats_last(validation: list[Story]) -> None:
    words = sum(len(story.text.split()) for story in validation)
    beat_changes = sum(len(list(itertools.groupby(span.beat for span in story.spans))) for story in validation)
    assert 200 < words / len(validation) < 400
    assert 30 < words / beat_changes < 80
    assert len(BEATS) >= 6


def plans(story: Story) -> dict[tuple[int, ...], float]:
    """Every beat path that can have written the story, with its probability; the gold spans are not used."""
    grammar = english_grammar()
    fitting = [(1 << len(forms)) - 1 for forms in ENTITIES.values()]
    emissions = []
    for sentence in split_sentences(story.text):
        (reading,) = grammar.readings(sentence)
        template = grammar.templates[reading.template]
        fitting = [one & other for one, other in zip(fitting, reading.entities, strict=True)]
        emissions.append(
            {
                beat: template.local_probability / len(TEMPLATES[name])
                for beat, name in enumerate(BEATS)
                if template.source in TEMPLATES[name]
            }
        )
    prior = math.prod(mask.bit_count() / len(forms) for mask, forms in zip(fitting, ENTITIES.values(), strict=True))
    found = {}
    for path in itertools.product(*emissions):
        probability = prior * INITIAL[path[0]] * TRANSITIONS[path[-1]][len(BEATS)]
        probability *= math.prod(TRANSITIONS[one][two] for one, two in itertools.pairwise(path))
        probability *= math.prod(emission[beat] for emission, beat in zip(emissions, path, strict=True))
        if probability > 0:
            found[path] = probability
    return found


def test_log_prob_equals_the_sum_over_all_plans_and_many_texts_have_several(validation: list[Story]) -> None:
    short = sorted(validation, key=lambda story: len(story.spans))[:60]
    hidden = 0
    for story in short:
        found = plans(story)
        assert tuple(BEATS.index(span.beat) for span in story.spans) in found
        assert story.log_prob == pytest.approx(math.log(math.fsum(found.values())), abs=1e-10)
        assert story.log_prob == story_log_prob(story.text)
        hidden += len(found) > 1
    assert hidden > 10


def test_entropy_per_byte_is_neither_trivial_nor_noise(validation: list[Story]) -> None:
    bits = -sum(story.log_prob for story in validation) / math.log(2)
    assert 0.25 < bits / sum(len(story.text.encode()) for story in validation) < 0.9


def test_every_generated_sentence_is_possible(train: list[Story]) -> None:
    assert all(sentence_is_possible(s) for story in train[:500] for s in split_sentences(story.text))


def test_corrupted_sentences_are_impossible(train: list[Story]) -> None:
    for story in train[:50]:
        for sentence in split_sentences(story.text):
            words = sentence.split()
            for place in range(len(words) - 1):
                swapped = [*words[:place], words[place + 1], words[place], *words[place + 2 :]]
                assert not sentence_is_possible(" ".join(swapped)), swapped
            for changed in (sentence[:-1], sentence.lower(), sentence + " ", sentence.replace(" ", "  ", 1)):
                assert not sentence_is_possible(changed)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Tom lost his red hat near the dark river.", "Tom lost her red hat near the dark river."),
        ("Mia looked slowly at Max.", "Rob looked slowly at Max."),
        ("Mia looked slowly at Max.", "Max looked slowly at Max."),
        ("Once there was a wise girl called Anna.", "Once there was a wise boy called Anna."),
        ("The shy dog slept in an old box.", "The shy dog slept in a old box."),
        ("The shy dog slept in an old box.", "The shy dog sleeps in an old box."),
    ],
)
def test_wrong_pronouns_names_and_articles_are_impossible(right: str, wrong: str) -> None:
    assert sentence_is_possible(right)
    assert not sentence_is_possible(wrong)


@pytest.mark.parametrize(
    ("slot", "one", "other"),
    [("thing", "kite", "drum"), ("hero", "Mia", "Lily"), ("friend", "Nora", "Clara"), ("hue", "red", "blue")],
)
def test_a_story_that_changes_its_names_or_objects_is_impossible(slot: str, one: str, other: str) -> None:
    sentences = [
        "More than anything, Mia wanted a tiny red kite.",
        "Mia tried two times to cross the dark river.",
        "Nora showed her a tiny path around the river.",
        "Luckily, they crossed the dark river, and Mia felt glad.",
        "From then on, Mia and Nora shared the red kite every day.",
    ]
    assert story_log_prob(" ".join(sentences)) > -math.inf
    everywhere = [re.sub(rf"\b{one}\b", other, sentence) for sentence in sentences]
    assert story_log_prob(" ".join(everywhere)) == pytest.approx(story_log_prob(" ".join(sentences)))
    once = [*everywhere[:-1], sentences[-1]] if slot != "hero" else [*sentences[:-1], everywhere[-1]]
    assert all(map(sentence_is_possible, once))
    assert story_log_prob(" ".join(once)) == -math.inf


def test_the_plan_is_no_lookup() -> None:
    """Many sentence forms, and the very same sentences, belong to several beats."""
    beats_of = Counter(source for beat in BEATS for source in TEMPLATES[beat])
    assert sum(count > 1 for count in beats_of.values()) >= 5
    assert all(any(beats_of[source] > 1 for source in TEMPLATES[beat]) for beat in BEATS)
    likelihoods = [math.exp(value) for value in sentence_beat_log_probs("It was a warm morning.")]
    possible = [beat for beat, value in zip(BEATS, likelihoods, strict=True) if value > 0]
    assert possible == ["opening", "journey", "rest", "ending"]
    assert max(likelihoods) / sum(likelihoods) < 0.3
    assert sentence_beat_log_probs("It was a warm mornin.") == (-math.inf,) * len(BEATS)


def test_beats_differ_in_their_words_and_share_many(train: list[Story]) -> None:
    counts = {beat: Counter[str]() for beat in BEATS}
    for story in train:
        for span in story.spans:
            counts[span.beat].update(re.findall(r"\w+", story.text[span.start : span.end].lower()))
    for one, other in itertools.combinations(BEATS, 2):
        totals = counts[one].total(), counts[other].total()
        overlap = sum(min(counts[one][word] / totals[0], counts[other][word] / totals[1]) for word in counts[one])
        assert 0.25 < overlap < 0.75, (one, other, overlap)


def test_every_beat_has_several_phrasings_and_every_slot_is_used() -> None:
    assert all(len(TEMPLATES[beat]) >= 8 for beat in BEATS)
    sources = " ".join(source for beat in BEATS for source in TEMPLATES[beat])
    used = {name[0].lower() + name[1:] for name in re.findall(r"\{(?:[aA] )?(\w+)", sources)}
    assert used == {*ENTITIES, *FILLERS}


def test_stories_are_clean_english(train: list[Story]) -> None:
    for story in train[:300]:
        assert not re.search(r"  |[{}%]|[^ -~]", story.text)
        for sentence in split_sentences(story.text):
            assert re.fullmatch(r'"?[A-Z][^.!?]*[.!?]"?', sentence)
            assert sentence.count('"') in (0, 2)
        for article, word in re.findall(r"\b([Aa]n?) (\w+)", story.text):
            assert (article.lower() == "an") == (word[0] in "aeiou"), (article, word)
        pronouns = set(re.findall(r"\b(she|he|her|his|him)\b", story.text.lower()))
        assert not (pronouns & {"she", "her"} and pronouns & {"he", "his", "him"})


def test_no_word_needs_an_article_that_its_spelling_hides() -> None:
    words = {text.split()[0] for texts in FILLERS.values() for text in texts}
    words |= {word for forms in ENTITIES.values() for form in forms for word in form["name"].lower().split()}
    assert not [word for word in words if re.match(r"uni|us[ae]|eu|one|once|hour|hono|honest|heir", word)]
