"""Cleaning, caps, reports and empty splits of an opened corpus."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apelr_data import (
    SOURCES,
    DataConfig,
    DataError,
    RowOrder,
    Rows,
    TextReport,
    clean_text,
    open_corpus,
    pack_documents,
)
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

ODD = (
    '\ufeff"text": with a mark',
    "line\r\nline\rline",
    "NUL\0NUL",
    "lone \ud800 surrogate",
    "",
    " \n\t",
    "short",
    "☃ unknown to some",
    "word " * 2_000_000,
)


@pytest.fixture
def odd_corpus(tmp_path):
    """Odd documents as rows and one of them as a file of bytes, all for training."""
    lines = [json.dumps({"text": text}) for text in ODD]
    (tmp_path / "odd.jsonl").write_bytes(b"\n".join(line.encode() for line in lines))
    (tmp_path / "odd.txt").write_bytes(b"\xef\xbb\xbfbytes \xff\xfe and\r\n \xe2\x82 end\0\n")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "val.txt").write_text("validation text\n", encoding="utf-8")
    config = DataConfig(source="text", path=str(tmp_path / "odd.*"), val_path=str(tmp_path / "val"), min_chars=6)
    return open_corpus(config, seed=0)


def test_odd_text_is_cleaned_and_counted_from_file_to_documents(odd_corpus):
    documents = list(odd_corpus.documents("train"))
    assert documents == [
        '"text": with a mark',
        "line\nline\nline",
        "NULNUL",
        "lone \ufffd surrogate",
        "☃ unknown to some",
        "word " * 2_000_000,
        "bytes \ufffd\ufffd and\n \ufffd\ufffd end\n",
    ]
    assert odd_corpus.report("train") == TextReport(
        documents=7,
        characters=sum(map(len, documents)),
        utf8_bytes=sum(len(text.encode()) for text in documents),
        invalid_bytes=4,
        nul_characters=2,
        byte_order_marks=2,
        carriage_returns=3,
        lone_surrogates=1,
        dropped_empty=2,
        dropped_short=1,
    )


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_odd_text_goes_through_real_tokenizers_byte_for_byte(odd_corpus, kind):
    tokenizer = fit_tokenizer(TokenizerConfig(type=kind, vocab_size=300), ["some ordinary text, word word\n"] * 3)
    stream = pack_documents(odd_corpus.documents("train"), tokenizer)
    assert stream.text_bytes == odd_corpus.report("train").utf8_bytes
    assert stream.documents == 7
    documents = list(odd_corpus.documents("train"))
    ends = np.flatnonzero(stream.ids == tokenizer.eos_id)
    starts = np.flatnonzero(stream.ids == tokenizer.bos_id)
    for start, end, document in zip(starts, ends, documents, strict=True):
        counted = int(stream.byte_counts[start : end + 1].sum())
        assert counted == len(document.encode())
        if tokenizer.lossless:
            assert tokenizer.decode(stream.ids[start : end + 1].tolist()) == document
    assert (stream.unknown > 0) == (kind == "char")


def test_from_a_file_to_batches(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("".join(f"Line {n} of a book.\n" for n in range(300)), encoding="utf-8")
    corpus = open_corpus(DataConfig(source="text", path=str(file)), seed=0)
    tokenizer = fit_tokenizer(TokenizerConfig(type="bpe", vocab_size=300), corpus.documents("train"))
    stream = pack_documents(corpus.documents("validation"), tokenizer)
    rows = Rows(stream, seq_len=16)
    batch = rows.batch(RowOrder(len(rows), seed=0).indices(0, len(rows)))
    assert int(batch.byte_counts.sum()) == corpus.report("validation").utf8_bytes
    assert int(batch.lengths.sum()) == len(stream.ids) - 1


def test_parting_a_long_document_gives_the_ids_of_the_whole(tmp_path, monkeypatch):
    text = "A line of words, numbers 123 and signs!\n\n  Indented text: it's “quoted”.\n" * 60
    tokenizer = fit_tokenizer(TokenizerConfig(type="bpe", vocab_size=400), [text])
    whole = pack_documents([text], tokenizer)
    monkeypatch.setattr("apelr_data.pack.PIECE_CHARS", 100)
    parted = pack_documents([text], tokenizer)
    assert parted.ids.tolist() == whole.ids.tolist()
    assert parted.byte_counts.tolist() == whole.byte_counts.tolist()


DOCUMENTS = st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=8)
CAPS = st.none() | st.integers(1, 30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(DOCUMENTS, CAPS, CAPS, st.integers(0, 4))
def test_caps_give_the_beginning_and_cut_the_last_document(tmp_path, texts, examples, chars, min_chars):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    config = DataConfig(
        source="text",
        path=str(file),
        val_path=str(file),
        max_train_examples=examples,
        max_train_chars=chars,
        min_chars=min_chars,
    )
    corpus = open_corpus(config, seed=0)
    cleaned = [clean_text(text, min_chars=min_chars) for text in texts]
    expected = [document.text for document in cleaned if document.kept][:examples]
    try:
        got = list(corpus.documents("train"))
    except DataError:
        assert not expected or not expected[0][:chars].strip()
        return
    assert "".join(got) == "".join(expected)[: sum(map(len, got))]
    assert all(text.strip() for text in got)
    assert got[:-1] == expected[: len(got) - 1]
    report = corpus.report("train")
    assert (report.documents, report.characters) == (len(got), len("".join(got)))
    if chars is None or len("".join(expected)) <= chars:
        assert got == expected
    else:
        assert len("".join(got)) <= chars
        assert len("".join(got)) == chars or expected[len(got)][: chars - len("".join(got))].isspace()


def test_caps_of_one_split_leave_the_other_alone(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"text": "Document {n}"}}\n' for n in range(50)), encoding="utf-8")
    config = DataConfig(source="text", path=str(file), val_path=str(file), max_val_examples=3)
    corpus = open_corpus(config, seed=0)
    assert len(list(corpus.documents("train"))) == 50
    assert len(list(corpus.documents("validation"))) == 3


def test_no_more_is_read_than_a_cap_needs(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "first"}\n{"text": "second"}\nnot json\n', encoding="utf-8")
    config = DataConfig(source="text", path=str(file), val_path=str(file), max_train_examples=2, max_val_chars=5)
    corpus = open_corpus(config, seed=0)
    assert list(corpus.documents("train")) == ["first", "second"]
    assert list(corpus.documents("validation")) == ["first"]


def test_the_report_is_of_the_latest_reading_and_of_both_splits(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"text": "Document {n}\\u0000"}}\n' for n in range(50)), encoding="utf-8")
    corpus = open_corpus(DataConfig(source="text", path=str(file), val_fraction=0.3), seed=0)
    assert corpus.report() == TextReport()
    for _ in range(2):
        list(corpus.documents("train"))
    assert corpus.report() == corpus.report("train")
    assert corpus.report("validation") == TextReport()
    list(corpus.documents("validation"))
    assert corpus.report().documents == corpus.report().nul_characters == 50
    next(corpus.documents("train"))
    assert corpus.report("train").documents == 1


def error_of(split, **values):
    with pytest.raises(DataError) as caught:
        list(open_corpus(DataConfig(source="text", **values), seed=0).documents(split))
    return str(caught.value)


def test_an_empty_split_is_an_error_that_says_what_to_do(tmp_path):
    one, blank = tmp_path / "one.jsonl", tmp_path / "blank.jsonl"
    one.write_text('{"text": "a single document"}\n', encoding="utf-8")
    blank.write_text('{"text": " "}\n{"text": "ab"}\n', encoding="utf-8")
    assert error_of("validation", path=str(one)) == (
        "data.source text leaves no validation documents (dropped: 0 empty, 0 under data.min_chars 1); "
        "raise data.val_fraction (now 0.05) or give data.val_path"
    )
    assert error_of("train", path=str(one), val_fraction=0.999999) == (
        "data.source text leaves no train documents (dropped: 0 empty, 0 under data.min_chars 1); "
        "give more text or lower data.min_chars and data.val_fraction"
    )
    for split in ("train", "validation"):
        assert error_of(split, path=str(blank), val_path=str(blank), min_chars=3) == (
            f"data.source text leaves no {split} documents (dropped: 1 empty, 1 under data.min_chars 3); "
            "give other files in data.path and data.val_path"
        )


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match=r"^split must be one of train, validation, got 'test'$"):
        open_corpus(DataConfig(), seed=0).documents("test")


@pytest.mark.parametrize("name", SOURCES)
def test_opening_asks_nothing_of_the_network(name, tmp_path):
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    config = DataConfig(source=name, path=str(tmp_path) if name in ("text", "hf") else None)
    assert open_corpus(config, seed=0).name == name
