import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_tokenizers import IdentityTokenizer, TokenizerConfig, TokenizerError, fit_tokenizer, tokenizer_from_text

FOUR = ("<pad>", "<bos>", "<eos>", "<unk>")
UNK = 3


def make(vocab_size: int = 68, **settings: Any) -> IdentityTokenizer:
    tokenizer = fit_tokenizer(TokenizerConfig(type="identity", vocab_size=vocab_size, **settings), [])
    assert isinstance(tokenizer, IdentityTokenizer)
    return tokenizer


@given(st.lists(st.integers(0, 63), min_size=1), st.booleans())
def test_symbol_n_has_the_id_n_plus_the_special_tokens(symbols: list[int], space_first: bool) -> None:
    text = " " * space_first + " ".join(map(str, symbols))
    encoding = make().encode(text)
    assert encoding.ids == [symbol + 4 for symbol in symbols]
    assert encoding.unknown == 0
    sizes = [len(str(symbol)) + 1 for symbol in symbols]
    assert encoding.byte_counts == [sizes[0] - (not space_first), *sizes[1:]]


def test_more_special_tokens_shift_the_ids() -> None:
    tokenizer = make(7, special_tokens=(*FOUR, "<sep>"))
    assert tokenizer.encode("0 1 2").ids == [5, 6, UNK]
    assert tokenizer.vocab_size == 7


def test_the_vocabulary_is_as_large_as_the_config_says_and_no_text_is_read() -> None:
    def unreadable() -> Any:
        raise AssertionError("read")
        yield

    assert fit_tokenizer(TokenizerConfig(type="identity", vocab_size=1000), unreadable()).vocab_size == 1000


@pytest.mark.parametrize(
    ("text", "ids", "byte_counts", "unknown"),
    [
        ("63 64", [67, UNK], [2, 3], 3),
        ("1 two 3", [5, UNK, 7], [1, 4, 2], 4),
        ("07 +1 -1 1.0 1e1", [UNK] * 5, [2, 3, 3, 4, 4], 16),
        ("1  2", [5, UNK, 6], [1, 1, 2], 1),
        ("1 ", [5, UNK], [1, 1], 1),
        ("1\n2\n\n", [5, UNK, 6, UNK], [1, 1, 1, 2], 3),
        ("1\t2", [UNK], [3], 3),
        ("1 é2 ３", [5, UNK, UNK], [1, 4, 4], 5),
        ("1 " + "9" * 5000, [5, UNK], [1, 5001], 5001),
        ("<bos> 1", [UNK, 5], [5, 2], 5),
    ],
)
def test_what_is_no_number_of_the_vocabulary_is_unknown(
    text: str, ids: list[int], byte_counts: list[int], unknown: int
) -> None:
    assert make().encode(text) == (ids, byte_counts, unknown)


TEXTS = st.lists(st.sampled_from([" ", "\n", "7", "63", "64", "x", "é", "\t", " 5"]), max_size=30).map("".join)


@settings(deadline=None)
@given(TEXTS, st.data())
def test_parts_give_the_ids_of_the_whole_where_packing_cuts(text: str, data: st.DataObject) -> None:
    # before a single space between words, and behind line ends
    cuts = [
        i
        for i in range(1, len(text))
        if (text[i] == " " and not text[i - 1].isspace() and not text[i + 1 : i + 2].isspace())
        or (text[i - 1] == "\n" and not text[i].isspace())
    ]
    if not cuts:
        return
    cut = data.draw(st.sampled_from(cuts))
    tokenizer = make()
    first, second, whole = tokenizer.encode_batch([text[:cut], text[cut:], text])
    assert first.ids + second.ids == whole.ids
    assert first.byte_counts + second.byte_counts == whole.byte_counts
    assert first.unknown + second.unknown == whole.unknown


def test_decoding_puts_a_space_before_every_number_so_that_parts_join() -> None:
    tokenizer = make()
    ids = tokenizer.encode("17 4 63").ids
    assert tokenizer.decode(ids) == " 17 4 63"
    assert tokenizer.decode(ids[:1]) + tokenizer.decode(ids[1:]) == tokenizer.decode(ids)
    assert tokenizer.encode(tokenizer.decode(ids)).ids == ids
    decoder = tokenizer.stream_decoder()
    assert [decoder.push(token_id) for token_id in [1, *ids, 2]] == ["", " 17", " 4", " 63", ""]
    assert decoder.finish() == ""


@given(st.lists(st.integers(4, 67)))
def test_ids_come_back_from_their_text(ids: list[int]) -> None:
    assert make().encode(make().decode(ids)).ids == ids


def test_its_file_holds_its_size_alone() -> None:
    content = json.loads(make(5000).to_text())
    assert content == {
        "format": "apelr-tokenizer",
        "version": 1,
        "type": "identity",
        "special_tokens": list(FOUR),
        "vocab_size": 5000,
    }


def test_what_it_remembers_of_texts_is_bounded() -> None:
    tokenizer = make()
    tokenizer.encode(" ".join(map(str, range(64))))
    tokenizer.encode(" " + " ".join(map(str, range(64))))
    tracemalloc.start()
    for number in range(2000):
        tokenizer.encode(f"{number}x {number + 64} {number:099}")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000


GOOD = {"format": "apelr-tokenizer", "version": 1, "type": "identity", "special_tokens": list(FOUR), "vocab_size": 9}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 4}, "vocab_size must be a whole number from 5 to 1000000, got 4"),
        ({"vocab_size": 10**12}, "vocab_size must be a whole number from 5 to 1000000, got 1000000000000"),
        ({"vocab_size": True}, "vocab_size must be a whole number from 5 to 1000000, got True"),
        ({"vocab_size": 9.0}, "vocab_size must be a whole number from 5 to 1000000, got 9.0"),
        ({"vocab_size": "9"}, "vocab_size must be a whole number from 5 to 1000000, got '9'"),
        ({"vocab_size": None}, "vocab_size must be a whole number from 5 to 1000000, got None"),
        ({"special_tokens": [*FOUR, "<a>"], "vocab_size": 5}, "vocab_size must be a whole number from 6 to"),
        ({"special_tokens": FOUR[:3]}, "special_tokens must name pad, bos, eos, unk, got"),
        ({"special_tokens": [*FOUR, "x"]}, "special_tokens must have 2 characters or more, got 'x'"),
        ({"special_tokens": [*FOUR, "<bos>"]}, "special_tokens must be free of duplicates, got '<bos>' twice"),
        ({"special_tokens": "<pad>"}, "special_tokens must be a list of strings, got '<pad>'"),
        ({"version": 2}, "version 2 of the tokenizer format is newer than 1"),
        ({"type": ["identity"]}, "type must be 'char' or 'identity', got ['identity']"),
    ],
)
def test_a_file_with_other_content_is_refused_by_its_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        tokenizer_from_text(json.dumps({**GOOD, **change}))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
