"""Packing documents into one stream."""

import hashlib
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError, pack, pack_documents
from apelr_data.pack import DocumentPacker, split_long_text
from apelr_tokenizers import Encoding, TokenizerError

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
DOCUMENTS = st.lists(TEXT, min_size=1, max_size=12)


def by_hand(documents, tokenizer):
    ids = []
    for document in documents:
        ids += [tokenizer.bos_id, *tokenizer.encode(document).ids, tokenizer.eos_id]
    return ids


@given(DOCUMENTS)
def test_the_stream_is_bos_document_eos(byte_tokenizer, documents):
    tokenizer = byte_tokenizer()
    stream = pack_documents(iter(documents), tokenizer)
    assert stream.ids.tolist() == by_hand(documents, tokenizer)
    assert stream.documents == len(documents)
    assert stream.unknown == sum(document.count("☃") for document in documents)
    assert stream.pad_id == tokenizer.pad_id


@given(DOCUMENTS)
def test_byte_counts_sum_to_the_documents_bytes_and_are_zero_at_their_ends(byte_tokenizer, documents):
    stream = pack_documents(documents, byte_tokenizer())
    size = sum(len(document.encode()) for document in documents)
    assert stream.text_bytes == int(stream.byte_counts.sum()) == size
    assert len(stream.byte_counts) == len(stream.ids)
    ends = (stream.ids == 1) | (stream.ids == 2)
    assert ends.sum() == 2 * len(documents)
    assert not stream.byte_counts[ends].any()
    assert stream.byte_counts.dtype == np.uint8


@given(DOCUMENTS, st.integers(1, 200))
def test_a_cap_gives_the_beginning_of_the_stream(byte_tokenizer, documents, max_tokens):
    tokenizer = byte_tokenizer()
    whole = pack_documents(documents, tokenizer)
    capped = pack_documents(documents, tokenizer, max_tokens=max_tokens)
    assert capped.ids.tolist() == whole.ids.tolist()[:max_tokens]
    assert capped.byte_counts.tolist() == whole.byte_counts.tolist()[:max_tokens]
    assert capped.text_bytes == int(whole.byte_counts[:max_tokens].sum())
    assert capped.documents == (capped.ids == tokenizer.bos_id).sum()
    assert capped.unknown == (capped.ids == tokenizer.unk_id).sum()


@given(documents=DOCUMENTS, pieces=st.integers(1, 4), chars=st.integers(1, 40), piece=st.integers(2, 12))
def test_batches_and_parts_change_nothing(byte_tokenizer, documents, pieces, chars, piece):
    tokenizer = byte_tokenizer()
    whole = pack_documents(documents, tokenizer, max_tokens=150)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "BATCH_PIECES", pieces)
        patch.setattr(pack, "BATCH_CHARS", chars)
        patch.setattr(pack, "PIECE_CHARS", piece)
        small = pack_documents(documents, tokenizer, max_tokens=150)
    assert small.ids.tolist() == whole.ids.tolist()
    assert small.byte_counts.tolist() == whole.byte_counts.tolist()
    assert (small.documents, small.unknown) == (whole.documents, whole.unknown)


def test_no_batch_is_larger_than_its_bound(byte_tokenizer):
    tokenizer = byte_tokenizer()
    documents = ["x" * 300_000, "one line\n" * 100_000, *["short"] * 3000]
    stream = pack_documents(documents, tokenizer)
    assert stream.text_bytes == sum(map(len, documents))
    assert len(tokenizer.batches) >= 4
    assert max(tokenizer.batches) <= pack.BATCH_CHARS + pack.PIECE_CHARS


def test_only_as_many_documents_are_read_as_the_cap_needs(byte_tokenizer):
    read = []

    def endless():
        while True:
            read.append(1)
            yield "x" * 1000

    stream = pack_documents(endless(), byte_tokenizer(), max_tokens=5000)
    assert len(stream.ids) == 5000
    assert len(read) <= pack.BATCH_PIECES + 1


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(256, np.uint8), (257, np.uint16), (65_536, np.uint16), (65_537, np.uint32)],
)
def test_the_smallest_integer_that_holds_the_vocabulary(byte_tokenizer, vocab_size, dtype):
    assert pack_documents(["text"], byte_tokenizer(vocab_size)).ids.dtype == dtype


@pytest.mark.parametrize(("size", "dtype"), [(255, np.uint8), (256, np.uint16), (65_536, np.uint32)])
def test_the_smallest_integer_that_holds_the_byte_counts(byte_tokenizer, size, dtype):
    class OneIdADocument(byte_tokenizer):
        def encode(self, text):
            return Encoding([4], [len(text.encode())], 0)

    stream = pack_documents(["ab", "x" * size, "cd"], OneIdADocument())
    assert stream.byte_counts.dtype == dtype
    assert stream.byte_counts.tolist() == [0, 2, 0, 0, size, 0, 0, 2, 0]


@given(DOCUMENTS)
def test_the_digest_is_of_the_ids(byte_tokenizer, documents):
    stream = pack_documents(documents, byte_tokenizer())
    assert stream.sha256 == hashlib.sha256(stream.ids.astype("<u2").tobytes()).hexdigest()


def test_of_a_cut_document_its_unknown_ids_count_and_of_a_whole_one_its_unknown_characters(byte_tokenizer):
    class TwoCharactersAnUnknownId(byte_tokenizer):
        def encode(self, text):
            return Encoding([3] * (len(text) // 2), [2] * (len(text) // 2), len(text))

    tokenizer = TwoCharactersAnUnknownId()
    unknown = [pack_documents(["aaaa", "bb"], tokenizer, max_tokens=most).unknown for most in range(1, 8)]
    assert unknown == [0, 1, 2, 4, 4, 5, 6]


@given(st.text("a \n☃", max_size=400), st.integers(2, 30))
def test_parts_of_a_long_text_join_to_it(text, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "PIECE_CHARS", piece)
        parts = list(split_long_text(text))
    assert "".join(parts) == text
    assert all(len(part) <= piece for part in parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("aaa\nbbb\nccc\nddd", ["aaa\nbbb\n", "ccc\nddd"]),
        ("aaa bbb ccc ddd", ["aaa bbb", " ccc ddd"]),
        ("abcdefghijkl", ["abcdefghij", "kl"]),
        ("short", ["short"]),
        ("", [""]),
    ],
)
def test_where_a_long_text_is_parted(monkeypatch, text, parts):
    monkeypatch.setattr(pack, "PIECE_CHARS", 10)
    assert list(split_long_text(text)) == parts


def test_an_empty_document_keeps_its_ends(byte_tokenizer):
    assert pack_documents([""], byte_tokenizer()).ids.tolist() == [1, 2]


def test_nothing_to_pack_is_an_error(byte_tokenizer):
    with pytest.raises(DataError, match=r"^there is no document to pack; give a corpus that is not empty$"):
        pack_documents([], byte_tokenizer())
    with pytest.raises(DataError, match=r"^max_tokens must be null or >= 1, got 0$"):
        pack_documents(["text"], byte_tokenizer(), max_tokens=0)


def test_batches_are_encoded_ahead_and_given_out_in_order(byte_tokenizer, monkeypatch):
    """While one is packed, two more are read and encoded, no more; the slowest comes in its place."""
    monkeypatch.setattr(pack, "BATCH_PIECES", 1)
    read = []

    class Slow(byte_tokenizer):
        def encode_batch(self, texts):
            time.sleep(0.05 * (texts == ["0"]))
            return super().encode_batch(texts)

    documents = [str(n) for n in range(8)]
    packer = DocumentPacker(Slow())
    parts = packer.parts(read.append(document) or document for document in documents)
    found = [next(parts).ids]
    assert read == documents[: 1 + pack.ENCODED_AHEAD]
    found += [part.ids for part in parts]
    assert np.concatenate(found).tolist() == by_hand(documents, Slow())


def test_an_error_of_the_tokenizer_comes_through_and_no_thread_stays(byte_tokenizer):
    before = threading.active_count()

    class Failing(byte_tokenizer):
        def encode_batch(self, texts):
            raise TokenizerError("a text that cannot be encoded")

    with pytest.raises(TokenizerError, match=r"^a text that cannot be encoded$"):
        pack_documents(["some"], Failing())
    parts = DocumentPacker(byte_tokenizer()).parts(iter(["some"] * 10_000))
    next(parts)
    parts.close()
    assert threading.active_count() == before
