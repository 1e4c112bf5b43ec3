"""Planted symbols as text: documents, caps, exact bits, rows that begin with chunks."""

import math

import numpy as np
import pytest

from apelr_data import DataConfig, MixedSource, PlantedConfig, PlantedSource, Rows, open_corpus, pack_documents
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

SMALL = PlantedConfig(train_tokens=600, val_tokens=300, vocab_size=120, chunk_size=4)


def corpus_of(seed=2, planted=SMALL, **settings):
    return open_corpus(DataConfig(source="planted", planted=planted, **settings), seed=seed)


def identity(symbols=120):
    return fit_tokenizer(TokenizerConfig(type="identity", vocab_size=symbols + 4), [])


def test_each_split_is_one_document_of_its_symbols():
    corpus = corpus_of()
    assert corpus.name == "planted"
    source = PlantedSource(SMALL, seed=2)
    for split, count in (("train", 600), ("validation", 300)):
        (text,) = corpus.documents(split)
        assert (text,) == tuple(corpus.documents(split))
        symbols = source.stream(split).symbols
        assert text == " ".join(str(symbol) for symbol in symbols)
        assert len(symbols) == count
        assert corpus.report(split).documents == 1
    assert set(map(len, map(str, symbols))) == {1, 2, 3}


def test_without_its_section_the_defaults_are_filled_in():
    assert DataConfig(source="planted").planted == PlantedConfig()
    assert DataConfig(source="planted") == DataConfig(source="planted", planted=PlantedConfig())


@pytest.mark.parametrize("offset", [0, 1])
def test_packed_with_identity_the_targets_of_row_r_are_symbols_from_rt_on(offset):
    planted = PlantedConfig(train_tokens=600, chunk_size=4, chunk_offset=offset)
    stream = pack_documents(corpus_of(planted=planted).documents("train"), identity(64))
    symbols, plans = PlantedSource(planted, seed=2).stream("train")
    assert stream.ids.tolist() == [1, *(symbols + 4).tolist(), 2]
    assert stream.unknown == 0
    rows = Rows(stream, seq_len=20)
    batch = rows.batch(range(len(rows)))
    for row in range(len(rows) - 1):
        assert batch.targets[row].tolist() == (symbols[20 * row : 20 * row + 20] + 4).tolist()
        # a model counts its chunks from the row's start, and so does the source
        chunks = (np.arange(20) + offset) // 4
        own = plans[20 * row : 20 * row + 20]
        assert all(len(set(own[chunks == chunk].tolist())) == 1 for chunk in set(chunks.tolist()))


def bits_per_byte(planted, symbols, text):
    nats = PlantedSource(planted, seed=2).tables.filter(symbols).log_probs.sum()
    return -nats / math.log(2) / len(text.encode())


def test_the_sources_bits_per_byte_are_those_of_its_symbols():
    corpus = corpus_of()
    for split in ("train", "validation"):
        (text,) = corpus.documents(split)
        symbols = np.array(text.split(), dtype=np.int64)
        assert corpus.source_bits_per_byte(split) == pytest.approx(bits_per_byte(SMALL, symbols, text), rel=1e-12)


def test_caps_cut_the_text():
    (whole,) = corpus_of().documents("validation")
    second = whole.index(" ", whole.index(" ") + 1)  # two numbers
    for most in range(1, 12):
        corpus = corpus_of(max_val_chars=most)
        assert list(corpus.documents("validation")) == [whole[:most]]
        counted = len(whole[:most].split())  # a number that is cut counts as a whole
        symbols = np.array(whole.split()[:counted], dtype=np.int64)
        text = " ".join(map(str, symbols))
        assert corpus.source_bits_per_byte("validation") == pytest.approx(bits_per_byte(SMALL, symbols, text))
    assert list(corpus_of(max_val_chars=second).documents("validation")) == [whole[:second]]
    assert list(corpus_of(max_train_examples=1, max_val_examples=5).documents("validation")) == [whole]
    stream = pack_documents(corpus_of().documents("validation"), identity(), max_tokens=50)
    assert stream.ids.tolist() == [1, *(int(symbol) + 4 for symbol in whole.split()[:49])]


def test_long_texts_are_packed_in_parts_without_a_seam(monkeypatch):
    whole = pack_documents(corpus_of().documents("train"), identity())
    monkeypatch.setattr("apelr_data.pack.PIECE_CHARS", 64)
    parted = pack_documents(corpus_of().documents("train"), identity())
    assert parted.ids.tolist() == whole.ids.tolist()
    assert parted.byte_counts.tolist() == whole.byte_counts.tolist()
    assert parted.unknown == 0


def test_it_can_be_a_part_of_a_mixture():
    entries = [{"source": "planted", "planted": SMALL}, {"source": "planted"}]
    corpus = open_corpus(DataConfig(sources=tuple(MixedSource(**entry) for entry in entries)), seed=2)
    assert next(iter(corpus.documents("train"))) == next(iter(corpus_of().documents("train")))
    assert corpus.source_bits_per_byte("train") is None
    assert corpus.plan_names == ()
