import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from apelr_tokenizers import BpeTokenizer, Tokenizer, TokenizerConfig, fit_tokenizer, tokenizer_from_text

PROPERTY = settings(max_examples=30, deadline=None)
SCALARS = st.characters(exclude_categories=["Cs"])
TEXT = st.lists(st.one_of(st.sampled_from(["<bos>", "PAD", "Ada ", "…é"]), st.text(SCALARS)), max_size=4).map("".join)


@pytest.fixture(scope="module")
def library(bpe_kind: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> LibraryTokenizer:
    """Return the tokenizer as other programs read it from our file."""
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    bpe_kind.save(path)
    library = LibraryTokenizer.from_file(str(path))
    library.encode_special_tokens = True
    return library


@PROPERTY
@given(text=TEXT)
def test_the_library_reads_our_file_and_agrees(bpe_kind: Tokenizer, library: LibraryTokenizer, text: str) -> None:
    ids = bpe_kind.encode(text).ids
    assert library.encode(text).ids == ids
    assert library.decode(ids, skip_special_tokens=True) == bpe_kind.decode(ids)


@PROPERTY
@given(data=st.data())
def test_decoding_equals_the_librarys_for_any_ids(
    bpe_kind: Tokenizer, library: LibraryTokenizer, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, bpe_kind.vocab_size - 1), max_size=20))
    assert library.decode(ids, skip_special_tokens=True) == bpe_kind.decode(ids)


@PROPERTY
@given(text=TEXT)
def test_byte_level_ids_account_for_their_own_bytes(kinds: dict[str, Tokenizer], text: str) -> None:
    tokenizer = kinds["bpe"]
    encoding = tokenizer.encode(text)
    data, position = text.encode("utf-8"), 0
    for token_id, count in zip(encoding.ids, encoding.byte_counts, strict=True):
        assert tokenizer.decode([token_id]) == data[position : position + count].decode("utf-8", errors="replace")
        position += count


def test_what_normalization_changes_goes_to_the_ids_of_its_characters(kinds: dict[str, Tokenizer]) -> None:
    encoding = kinds["bpe-nfkc"].encode("…")
    assert kinds["bpe-nfkc"].decode(encoding.ids) == "..."
    assert encoding.byte_counts[0] == 3
    assert sum(encoding.byte_counts[1:]) == 0


def test_names_that_merges_could_spell_never_come_from_text(
    kinds: dict[str, Tokenizer], other_names: tuple[str, ...]
) -> None:
    for kind in ("bpe-own-names", "bpe-characters-own-names"):
        for name in other_names:
            encoding = kinds[kind].encode(f"{name} {name}{name}")
            assert min(encoding.ids) >= len(other_names)
            assert kinds[kind].decode(encoding.ids) == f"{name} {name}{name}"


def test_prototype_file_does_not_find_special_tokens_in_text(prototype_bpe: str) -> None:
    tokenizer = tokenizer_from_text(prototype_bpe)
    assert LibraryTokenizer.from_str(prototype_bpe).encode("a<bos>").ids[-1] == tokenizer.bos_id
    assert tokenizer.bos_id not in tokenizer.encode("a<bos>").ids


@PROPERTY
@given(text=TEXT)
def test_prototype_file_gives_the_librarys_ids(prototype_bpe: str, text: str) -> None:
    library = LibraryTokenizer.from_str(prototype_bpe)
    library.encode_special_tokens = True
    assert tokenizer_from_text(prototype_bpe).encode(text).ids == library.encode(text).ids


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("é", 0), ("z", 1), ("zé\u00ea", 2), ("日本", 2), ("…", 0), ("Ａ", 0)],
)
def test_unknown_counts_original_characters_once(prototype_bpe: str, text: str, unknown: int) -> None:
    assert tokenizer_from_text(prototype_bpe).encode(text).unknown == unknown


@PROPERTY
@given(text=TEXT)
def test_unknown_bytes_without_normalizer(prototype_bpe: str, text: str) -> None:
    content = json.loads(prototype_bpe)
    content["normalizer"] = None
    tokenizer = tokenizer_from_text(json.dumps(content))
    known = {byte for i in range(tokenizer.vocab_size) for byte in tokenizer._pieces[i]}  # type: ignore[attr-defined]
    encoding = tokenizer.encode(text)
    assert encoding.unknown == sum(not set(character.encode("utf-8")) <= known for character in text)
    assert sum(encoding.byte_counts) == len(text.encode("utf-8"))
    assert not tokenizer.lossless


@PROPERTY
@given(text=TEXT)
def test_characters_bpe_gives_back_all_but_unknown_characters(kinds: dict[str, Tokenizer], text: str) -> None:
    tokenizer = kinds["bpe-characters-few"]
    known = [character for character in text if tokenizer.encode(character).unknown == 0]
    encoding = tokenizer.encode(text)
    assert tokenizer.decode(encoding.ids) == "".join(known)
    assert encoding.unknown == len(text) - len(known)


def test_lowercase_and_normalizer_act_in_this_order() -> None:
    config = TokenizerConfig(vocab_size=300, min_frequency=1, lowercase=True, normalizer="nfkd")
    tokenizer = fit_tokenizer(config, ["some text"])
    assert tokenizer.decode(tokenizer.encode("Ⅷ É").ids) == "viii e\u0301"


def test_a_huge_line_without_spaces() -> None:
    tokenizer = fit_tokenizer(TokenizerConfig(vocab_size=300), ["abc" * 200_000])
    text = "abcd" * 50_000
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_it_is_the_class_that_is_exported(bpe_kind: Tokenizer) -> None:
    assert isinstance(bpe_kind, BpeTokenizer)
