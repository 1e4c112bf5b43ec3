"""The order of a mixture: shares, stability, and its end."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataConfig, DataError, MixedSource, open_corpus
from apelr_data.mixture import interleave
from apelr_data.text_policy import clean_text

WEIGHT = st.floats(0.01, 100)
DOCUMENTS = st.lists(st.text("ab ", max_size=30), max_size=30)
SOURCES = st.lists(st.tuples(DOCUMENTS, WEIGHT), min_size=1, max_size=4)


def mixed(sources):
    streams = [map(clean_text, texts) for texts, _ in sources]
    return list(interleave(streams, [weight for _, weight in sources]))


@given(SOURCES)
def test_shares_differ_by_a_document_at_most_at_any_time(sources):
    given_so_far = [0] * len(sources)
    longest = max((len(text) for texts, _ in sources for text in texts), default=0)
    for number, document in mixed(sources):
        given_so_far[number] += document.report.characters
        for (one, (_, weight)), (other, (_, other_weight)) in itertools.permutations(
            zip(given_so_far, sources, strict=True), 2
        ):
            assert one / weight - other / other_weight <= longest / weight * (1 + 1e-9)


@given(SOURCES)
def test_every_source_keeps_its_order_and_the_first_to_end_is_read_whole(sources):
    order = mixed(sources)
    seen = [[document.text for number, document in order if number == i] for i in range(len(sources))]
    cleaned = [[clean_text(text).text for text in texts] for texts, _ in sources]
    assert all(texts == whole[: len(texts)] for texts, whole in zip(seen, cleaned, strict=True))
    assert any(texts == whole for texts, whole in zip(seen, cleaned, strict=True))


@given(SOURCES, st.integers(-3, 3))
def test_only_the_proportions_of_weights_matter(sources, power):
    scaled = [(texts, weight * 2.0**power) for texts, weight in sources]
    assert mixed(scaled) == mixed(sources)


def test_equal_weights_and_lengths_take_turns():
    sources = [(["a1", "a2", "a3"], 1.0), (["b1", "b2", "b3"], 1.0), (["c1", "c2"], 1.0)]
    assert [document.text for _, document in mixed(sources)] == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3"]


@pytest.fixture
def mixture(tmp_path):
    """Long rows of one file and short rows of another, three to one."""
    texts = {"long": [f"long {i} " * 40 for i in range(300)], "short": [f"short {i}" for i in range(3000)]}
    for name, rows in texts.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    entries = [
        MixedSource(source="text", path=str(tmp_path / f"{name}.jsonl"), weight=weight)
        for name, weight in (("long", 3), ("short", 1))
    ]
    return DataConfig(sources=tuple(entries), val_fraction=0.2)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_achieved_shares_are_the_weights(mixture, split):
    corpus = open_corpus(mixture, seed=0)
    assert corpus.name == "text + text"
    documents = list(corpus.documents(split))
    (_, long), (_, short) = corpus.source_reports(split)
    assert long.characters / (long.characters + short.characters) == pytest.approx(0.75, abs=0.01)
    assert long.characters == sum(len(text) for text in documents if text.startswith("long"))
    assert corpus.report(split) == long + short
    assert corpus.report(split).documents == len(documents) > 100


def test_the_order_is_the_same_every_time_and_a_cap_gives_its_beginning(mixture):
    whole = list(open_corpus(mixture, seed=0).documents("train"))
    assert list(open_corpus(mixture, seed=5).documents("train")) == whole
    capped = open_corpus(replace(mixture, max_train_examples=70), seed=0)
    assert list(capped.documents("train")) == whole[:70]
    cut = open_corpus(replace(mixture, max_train_chars=1000), seed=0)
    assert "".join(cut.documents("train")) == "".join(whole)[:1000]
    assert cut.report("train").characters == 1000


def test_held_out_documents_are_those_of_each_source_alone(mixture):
    train, validation = (set(open_corpus(mixture, seed=0).documents(split)) for split in ("train", "validation"))
    assert not train & validation
    for part in mixture.parts():
        alone = set(open_corpus(part, seed=0).documents("validation"))
        assert {text for text in validation if text[:4] == min(alone)[:4]} <= alone


def test_a_source_without_documents_is_named_by_its_place(mixture, tmp_path):
    (tmp_path / "blank.jsonl").write_text('{"text": " "}\n', encoding="utf-8")
    blank = MixedSource(source="text", path=str(tmp_path / "blank.jsonl"))
    corpus = open_corpus(replace(mixture, sources=(*mixture.sources, blank)), seed=0)
    with pytest.raises(DataError) as caught:
        list(corpus.documents("train"))
    assert str(caught.value).startswith("data.sources[2].source text leaves no train documents (dropped: ")
    capped = open_corpus(replace(mixture, sources=(*mixture.sources, blank), max_train_examples=2), seed=0)
    assert len(list(capped.documents("train"))) == 2


def test_a_wrong_key_of_an_entry_is_named_by_its_place(mixture, tmp_path):
    lost = MixedSource(source="text", path=str(tmp_path / "lost.jsonl"))
    with pytest.raises(DataError, match=r"^data\.sources\[2\]\.path: "):
        open_corpus(replace(mixture, sources=(*mixture.sources, lost)), seed=0)
    other = replace(mixture.sources[1], text_field="body")
    with pytest.raises(DataError, match=r"set data\.sources\[1\]\.text_field to one of: text$"):
        list(open_corpus(replace(mixture, sources=(mixture.sources[0], other)), seed=0).documents("train"))


def test_stories_in_a_mixture_have_no_exact_entropy_of_the_whole(mixture):
    config = replace(mixture, sources=(MixedSource(source="storyworld"), *mixture.sources), max_train_examples=30)
    corpus = open_corpus(config, seed=3)
    assert len(list(corpus.documents("train"))) == 30
    assert corpus.source_bits_per_byte("validation") is None
    alone = open_corpus(DataConfig(sources=(MixedSource(source="storyworld"),), max_val_examples=3), seed=3)
    assert alone.source_bits_per_byte("validation") == pytest.approx(
        open_corpus(DataConfig(max_val_examples=3), seed=3).source_bits_per_byte("validation")
    )
