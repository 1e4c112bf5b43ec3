"""Gold plans of packed ids: the plan behind each token's first visible character, found again by hand."""

import numpy as np
import pytest

from apelr_data import (
    BEATS,
    DataConfig,
    DataError,
    MixedSource,
    PlantedConfig,
    PlantedSource,
    Rows,
    TokenCache,
    generate_story,
    gold_plans,
    open_corpus,
    pack_documents,
)
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

TOKENIZERS = {
    "bpe": TokenizerConfig(vocab_size=400),
    "large-bpe": TokenizerConfig(vocab_size=2000),
    "bpe-characters": TokenizerConfig(byte_level=False, vocab_size=300),
    "char": TokenizerConfig(type="char", min_frequency=1),
    "poor-char": TokenizerConfig(type="char", vocab_size=12),
}
EXAMPLES = {"max_train_examples": 12, "max_val_examples": 5}


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request):
    corpus = open_corpus(DataConfig(max_train_examples=60), seed=4)
    return fit_tokenizer(TOKENIZERS[request.param], corpus.documents("train"))


def expected_beats(stream, stories):
    """A plain walk over characters: the beat of the sentence that holds each token's first visible one."""
    labels, story, at = [], None, 0
    for token, size in zip(stream.ids.tolist(), stream.byte_counts.tolist(), strict=True):
        if token == stream.bos_id:
            story, at = next(stories), 0
        if size == 0:
            labels.append(-1)
            continue
        data = story.text.encode()
        place = next(i for i in range(at, len(data)) if data[i : i + 1] != b" ")
        beat = next(span.beat for span in story.spans if span.start <= len(data[:place].decode()) < span.end)
        labels.append(BEATS.index(beat))
        at += size
    return labels


@pytest.mark.parametrize(
    "caps",
    [{}, {"max_train_chars": 2000}, {"max_train_chars": 1}, {"max_train_tokens": 777}, {"max_train_tokens": 1}],
    ids=str,
)
def test_each_label_is_the_beat_of_the_sentence_with_the_tokens_first_visible_character(tokenizer, caps):
    config = DataConfig(**EXAMPLES, **caps)
    corpus = open_corpus(config, seed=4)
    stream = pack_documents(corpus.documents("train"), tokenizer, max_tokens=config.max_train_tokens)
    labels, names = gold_plans(corpus, "train", stream)
    assert names == BEATS
    assert labels.dtype == np.int64
    stories = (generate_story(4, "train", index) for index in range(12))
    assert labels.tolist() == expected_beats(stream, stories)
    if not caps:
        assert set(labels.tolist()) == {-1, *range(len(BEATS))}
        assert ((labels == -1) == (stream.ids == tokenizer.bos_id) | (stream.ids == tokenizer.eos_id)).all()


def test_a_token_that_begins_with_the_space_before_a_sentence_belongs_to_the_sentence(tokenizer):
    corpus = open_corpus(DataConfig(**EXAMPLES), seed=4)
    stream = pack_documents(corpus.documents("validation"), tokenizer)
    labels = gold_plans(corpus, "validation", stream).labels
    story = generate_story(4, "validation", 0)
    turn = next(i for i, span in enumerate(story.spans[1:], 1) if span.beat != story.spans[i - 1].beat)
    ends = np.cumsum(stream.byte_counts[1:])
    first = 1 + int(np.searchsorted(ends, story.spans[turn].start, side="right"))
    assert labels[first - 1] == BEATS.index(story.spans[turn - 1].beat)
    assert labels[first] == BEATS.index(story.spans[turn].beat)


def test_documents_that_are_dropped_have_no_labels(tokenizer):
    lengths = sorted(len(generate_story(4, "train", index).text) for index in range(12))
    config = DataConfig(**EXAMPLES, min_chars=lengths[4] + 1)
    corpus = open_corpus(config, seed=4)
    stream = pack_documents(corpus.documents("train"), tokenizer)
    assert stream.documents == 7
    stories = (generate_story(4, "train", index) for index in range(12))
    kept = (story for story in stories if len(story.text) >= config.min_chars)
    assert gold_plans(corpus, "train", stream).labels.tolist() == expected_beats(stream, kept)


PLANTED = PlantedConfig(train_tokens=900, val_tokens=200, chunk_size=5, num_plans=3, self_transition=0.5)


@pytest.mark.parametrize("kind", ["identity", "bpe", "char"])
@pytest.mark.parametrize("caps", [{}, {"max_train_chars": 500}, {"max_train_tokens": 333}], ids=str)
def test_planted_labels_are_the_plans_of_the_symbols(kind, caps):
    config = DataConfig(source="planted", planted=PLANTED, **caps)
    corpus = open_corpus(config, seed=6)
    settings = {"type": kind, "vocab_size": {"identity": 68, "bpe": 300, "char": 20}[kind]}
    tokenizer = fit_tokenizer(TokenizerConfig(**settings), corpus.documents("train"))
    stream = pack_documents(corpus.documents("train"), tokenizer, max_tokens=config.max_train_tokens)
    labels, names = gold_plans(corpus, "train", stream)
    assert names == ("0", "1", "2")
    plans = PlantedSource(PLANTED, seed=6).stream("train").plans
    (text,) = open_corpus(DataConfig(source="planted", planted=PLANTED), seed=6).documents("train")
    at = 0
    for token, size, label in zip(stream.ids.tolist(), stream.byte_counts.tolist(), labels.tolist(), strict=True):
        if size == 0:
            assert label == -1
            continue
        # numbers before the first visible character; a number that begins there counts for itself
        place = at + (text[at] == " ")
        assert label == plans[len(text[: place + 1].split()) - 1], (at, token)
        at += size
    if kind == "identity" and not caps:
        assert labels.tolist() == [-1, *plans.tolist(), -1]


def test_labels_of_a_batchs_targets_are_looked_up_by_their_places_in_the_stream():
    corpus = open_corpus(DataConfig(source="planted", planted=PLANTED), seed=6)
    tokenizer = fit_tokenizer(TokenizerConfig(type="identity", vocab_size=68), [])
    stream = pack_documents(corpus.documents("validation"), tokenizer)
    rows = Rows(stream, seq_len=30)
    positions = rows.stream_positions(range(len(rows)))
    labels = np.append(gold_plans(corpus, "validation", stream).labels, -1)[positions]
    plans = PlantedSource(PLANTED, seed=6).stream("validation").plans.tolist()
    assert labels.ravel().tolist() == plans + [-1] * (labels.size - len(plans))


def test_a_token_cache_has_the_same_labels(tmp_path):
    config = DataConfig(source="planted", planted=PLANTED, token_cache_dir=str(tmp_path))
    identity = TokenizerConfig(type="identity", vocab_size=68)
    corpus, said = open_corpus(config, seed=6), []
    cache = TokenCache(config, identity, seed=6, say=said.append)
    stream = cache.tokens(cache.tokenizer(corpus), corpus).streams["train"]
    memory = pack_documents(corpus.documents("train"), fit_tokenizer(identity, []))
    expected = gold_plans(corpus, "train", memory).labels.tolist()
    assert gold_plans(corpus, "train", stream).labels.tolist() == expected
    assert not any("fitting" in line for line in said)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DataConfig(source="python_docs", max_train_examples=2), "python_docs"),
        (DataConfig(sources=(MixedSource(source="storyworld"), MixedSource(source="planted"))), "storyworld + planted"),
    ],
    ids=["docs", "mixture"],
)
def test_a_source_without_gold_plans_is_one_line(config, name):
    corpus = open_corpus(config, seed=0)
    stream = pack_documents(["text"], fit_tokenizer(TOKENIZERS["char"], ["text"]))
    with pytest.raises(DataError) as caught:
        gold_plans(corpus, "train", stream)
    assert str(caught.value) == f"data.source {name} has no gold plans; storyworld and planted have"


def test_a_mixture_of_one_source_has_its_plans():
    corpus = open_corpus(DataConfig(sources=(MixedSource(source="storyworld"),)), seed=0)
    assert corpus.plan_names == BEATS


@pytest.mark.parametrize("documents", [["other text", "and more"], ["x" * 100_000], ["Once."] * 4], ids=len)
def test_a_stream_of_another_text_is_refused(documents):
    corpus = open_corpus(DataConfig(**EXAMPLES), seed=4)
    stream = pack_documents(documents, fit_tokenizer(TOKENIZERS["char"], documents))
    with pytest.raises(DataError) as caught:
        gold_plans(corpus, "train", stream)
    assert str(caught.value) == "the stream was not packed from the train documents of data.source storyworld"


def test_a_stream_of_more_documents_is_refused(tokenizer):
    corpus = open_corpus(DataConfig(max_train_examples=2), seed=4)
    longer = open_corpus(DataConfig(max_train_examples=3), seed=4)
    stream = pack_documents(longer.documents("train"), tokenizer)
    with pytest.raises(DataError, match="was not packed from the train documents"):
        gold_plans(corpus, "train", stream)
