"""The promises of the protocol, kept by every kind of tokenizer (a new kind is one line in conftest.py)."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_tokenizers import Encoding, Tokenizer, TokenizerError, load_tokenizer, tokenizer_from_text

PROPERTY = settings(max_examples=30, deadline=None)
SCALARS = st.characters(exclude_categories=["Cs"])
PARTS = ["<bos>", "<unk>", "PAD", "it", "Ada", " ", "…", "é", "e\u0301", "İ", "ﬁ", "日本", "😀", "\r\n", "\0", "the"]
ANY_TEXT = st.lists(st.one_of(st.sampled_from(PARTS), st.text(SCALARS, max_size=8)), max_size=8).map("".join)


@pytest.fixture(scope="module")
def loaded(tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer_from_text(tokenizer.to_text())


def special_ids(tokenizer: Tokenizer) -> set[int]:
    return {i for i in range(tokenizer.vocab_size) if tokenizer.decode([i]) == ""}


def test_ids_of_roles_are_distinct_and_in_range(tokenizer: Tokenizer) -> None:
    roles = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id]
    assert roles == [0, 1, 2, 3]
    assert tokenizer.vocab_size > 4


def test_no_text_gives_no_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == Encoding([], [], 0)
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode_batch(["", "a", ""])[0::2] == [Encoding([], [], 0)] * 2
    assert tokenizer.decode([]) == ""


@PROPERTY
@given(text=ANY_TEXT)
def test_bytes_are_accounted_for_exactly(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    assert sum(encoding.byte_counts) == len(text.encode("utf-8"))
    assert len(encoding.byte_counts) == len(encoding.ids)
    assert all(count >= 0 for count in encoding.byte_counts)


@PROPERTY
@given(text=ANY_TEXT)
def test_a_text_that_is_not_empty_gives_ids(tokenizer: Tokenizer, text: str) -> None:
    assert bool(tokenizer.encode(text).ids) == bool(text)


@PROPERTY
@given(text=ANY_TEXT)
def test_ids_are_in_range_and_no_special_id_but_unknown_comes_from_text(tokenizer: Tokenizer, text: str) -> None:
    ids = set(tokenizer.encode(text).ids)
    assert ids <= set(range(tokenizer.vocab_size))
    assert ids & special_ids(tokenizer) <= {tokenizer.unk_id}


@PROPERTY
@given(text=ANY_TEXT)
def test_unknown_counts_characters(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    assert (encoding.unknown > 0) == (tokenizer.unk_id in encoding.ids)
    assert encoding.unknown <= len(text)


@PROPERTY
@given(texts=st.lists(ANY_TEXT, max_size=3))
def test_a_batch_is_its_texts_encoded_one_by_one(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(tuple(texts)) == tokenizer.encode_batch(texts)


@PROPERTY
@given(text=ANY_TEXT)
def test_lossless_gives_every_text_back(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    if tokenizer.lossless:
        assert tokenizer.decode(encoding.ids) == text
        assert encoding.unknown == 0


def test_not_lossless_where_a_text_is_not_given_back(tokenizer: Tokenizer, lost_text: str | None) -> None:
    assert tokenizer.lossless == (lost_text is None)
    if lost_text is not None:
        assert tokenizer.decode(tokenizer.encode(lost_text).ids) != lost_text


def test_known_characters_come_back_unless_normalized(kind: str, kinds: dict[str, Tokenizer]) -> None:
    if "nf" not in kind and "lower" not in kind:
        text = "Ada found a kite. The kite was red, and Ada was glad.\n"
        encoding = kinds[kind].encode(text)
        assert kinds[kind].decode(encoding.ids) == "".join(
            character for character in text if kinds[kind].encode(character).unknown == 0
        )


def test_special_ids_are_left_out_of_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a kite").ids
    around = [tokenizer.bos_id, tokenizer.pad_id, *ids, tokenizer.unk_id, tokenizer.eos_id]
    assert tokenizer.decode(around) == tokenizer.decode(ids)
    assert tokenizer.decode(iter(around)) == tokenizer.decode(ids)


def test_an_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    last = tokenizer.vocab_size - 1
    for bad in (-1, tokenizer.vocab_size):
        message = rf"^id must be in 0 \.\. {last}, got {bad}$"
        with pytest.raises(TokenizerError, match=message):
            tokenizer.decode([0, bad])
        with pytest.raises(TokenizerError, match=message):
            tokenizer.stream_decoder().push(bad)


@PROPERTY
@given(data=st.data())
def test_streaming_gives_the_decoded_text_in_whole_characters(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    decoder = tokenizer.stream_decoder()
    parts = [decoder.push(token_id) for token_id in ids]
    assert "".join(parts) + decoder.finish() == tokenizer.decode(ids)


@PROPERTY
@given(text=ANY_TEXT)
def test_streaming_an_encoded_text_never_emits_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    whole = tokenizer.decode(ids)
    decoder = tokenizer.stream_decoder()
    so_far = ""
    for token_id in ids:
        so_far += decoder.push(token_id)
        assert whole.startswith(so_far)
    assert so_far + decoder.finish() == whole


@pytest.mark.parametrize("text", ["\ud800", "fine é \udfff"])
def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer, text: str) -> None:
    position = len(text) - 1
    message = (
        rf"^text must hold only Unicode scalar values, got the lone surrogate U\+{ord(text[-1]):04X}"
        rf" at position {position}; replace it with U\+FFFD$"
    )
    with pytest.raises(TokenizerError, match=message):
        tokenizer.encode(text)
    with pytest.raises(TokenizerError, match=message):
        tokenizer.encode_batch(["fine", text])


def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    assert path.read_bytes() == tokenizer.to_text().encode("utf-8")
    assert b"\r" not in path.read_bytes()
    for other in (load_tokenizer(path), tokenizer_from_text(tokenizer.to_text())):
        assert other.fingerprint == tokenizer.fingerprint
        assert other.to_text() == tokenizer.to_text()
        assert other.vocab_size == tokenizer.vocab_size
        assert other.lossless == tokenizer.lossless
        assert other.encode_batch(texts) == tokenizer.encode_batch(texts)
        everything = range(tokenizer.vocab_size)
        assert other.decode(everything) == tokenizer.decode(everything)


@PROPERTY
@given(text=ANY_TEXT)
def test_loaded_it_encodes_the_same(tokenizer: Tokenizer, loaded: Tokenizer, text: str) -> None:
    assert loaded.encode(text) == tokenizer.encode(text)


def test_fingerprint_ignores_the_formatting_of_the_file(tokenizer: Tokenizer) -> None:
    content = json.loads(tokenizer.to_text())
    for text in (json.dumps(content), json.dumps(content, indent=4, sort_keys=True)):
        assert tokenizer_from_text(text).fingerprint == tokenizer.fingerprint
    assert len(tokenizer.fingerprint) == 64
    assert int(tokenizer.fingerprint, 16) >= 0


def test_fingerprints_of_different_tokenizers_differ(kinds: dict[str, Tokenizer]) -> None:
    assert len({tokenizer.fingerprint for tokenizer in kinds.values()}) == len(kinds)
