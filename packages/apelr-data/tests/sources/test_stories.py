"""Storyworld as a source."""

import math

import pytest

from apelr_data import DataConfig, generate_story, open_corpus
from apelr_data.sources.stories import TRAIN_STORIES, VALIDATION_STORIES


def test_documents_are_the_seeds_stories():
    corpus = open_corpus(DataConfig(max_train_examples=4, max_val_examples=3), seed=7)
    assert corpus.name == "storyworld"
    for split, count in (("train", 4), ("validation", 3)):
        stories = [generate_story(7, split, index).text for index in range(count)]
        assert list(corpus.documents(split)) == stories
        assert list(corpus.documents(split)) == stories


def test_the_number_of_stories_without_caps():
    assert (TRAIN_STORIES, VALIDATION_STORIES) == (20_000, 500)
    assert sum(1 for _ in open_corpus(DataConfig(), seed=1).documents("validation")) == VALIDATION_STORIES


def test_a_cap_may_ask_for_more_than_the_default_number():
    config = DataConfig(max_val_examples=VALIDATION_STORIES + 2)
    assert sum(1 for _ in open_corpus(config, seed=1).documents("validation")) == VALIDATION_STORIES + 2


def bits_per_byte(stories):
    bits = -sum(story.log_prob for story in stories) / math.log(2)
    return bits / sum(len(story.text.encode()) for story in stories)


def test_the_sources_bits_per_byte_are_those_of_its_stories():
    corpus = open_corpus(DataConfig(max_train_examples=2, max_val_examples=5), seed=3)
    stories = [generate_story(3, "validation", index) for index in range(5)]
    assert corpus.source_bits_per_byte("validation") == pytest.approx(bits_per_byte(stories), rel=1e-12)
    train = [generate_story(3, "train", index) for index in range(2)]
    assert corpus.source_bits_per_byte("train") == pytest.approx(bits_per_byte(train), rel=1e-12)
    assert 0.05 < corpus.source_bits_per_byte("validation") < 1.5


def test_a_cap_on_characters_ends_the_stories_that_count():
    first, second = (generate_story(3, "validation", index) for index in range(2))
    config = DataConfig(max_val_chars=len(first.text) + 1)
    corpus = open_corpus(config, seed=3)
    assert list(corpus.documents("validation")) == [first.text, second.text[:1]]
    assert corpus.source_bits_per_byte("validation") == pytest.approx(bits_per_byte([first, second]))


def test_other_sources_do_not_know_their_entropy():
    assert open_corpus(DataConfig(source="python_docs"), seed=0).source_bits_per_byte("validation") is None
