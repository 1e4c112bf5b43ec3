import json

import pytest

from apelr_tokenizers import CharTokenizer, TokenizerConfig, TokenizerError, fit_tokenizer, tokenizer_from_text


def characters(tokenizer: CharTokenizer) -> str:
    return tokenizer.decode(range(tokenizer.vocab_size))


def fit(text: str, **settings: object) -> CharTokenizer:
    tokenizer = fit_tokenizer(TokenizerConfig(type="char", **settings), [text])  # type: ignore[arg-type]
    assert isinstance(tokenizer, CharTokenizer)
    return tokenizer


def test_special_tokens_first_then_sorted_characters() -> None:
    tokenizer = fit("cab😀", min_frequency=1)
    assert tokenizer.vocab_size == 8
    assert tokenizer.encode("abc😀") == ([4, 5, 6, 7], [1, 1, 1, 4], 0)


def test_characters_below_min_frequency_are_unknown_and_counted() -> None:
    tokenizer = fit("aab")
    assert tokenizer.encode("abé") == ([4, 3, 3], [1, 1, 2], 2)
    assert tokenizer.decode([4, 3, 3]) == "a"


def test_the_most_frequent_are_kept_and_ties_go_by_code_point() -> None:
    assert characters(fit("zzz" + "dcbacdab", vocab_size=7)) == "abz"
    assert fit("zzz" + "dcbacdab", vocab_size=7).vocab_size == 7


def test_special_token_text_is_ordinary_characters() -> None:
    tokenizer = fit("<bos>", min_frequency=1)
    assert tokenizer.decode(tokenizer.encode("<bos>").ids) == "<bos>"


def test_own_special_names_and_more_than_four() -> None:
    tokenizer = fit("aa", special_tokens=("[P]", "[B]", "[E]", "[U]", "[X]"))
    assert tokenizer.encode("a").ids == [5]
    assert json.loads(tokenizer.to_text())["special_tokens"] == ["[P]", "[B]", "[E]", "[U]", "[X]"]


def test_file_carries_format_version_and_type() -> None:
    content = json.loads(fit("aa").to_text())
    assert (content["format"], content["version"], content["type"]) == ("apelr-tokenizer", 1, "char")


def test_the_prototypes_list_is_read_in_its_order() -> None:
    tokenizer = tokenizer_from_text('{"itos": ["<pad>", "<bos>", "<eos>", "<unk>", "b", "a", "é"]}')
    assert tokenizer.encode("abéc") == ([5, 4, 6, 3], [1, 1, 2, 1], 1)


GOOD = {"format": "apelr-tokenizer", "version": 1, "type": "char"}
NAMES = ["<pad>", "<bos>", "<eos>", "<unk>"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"itos": ["<pad>", "<bos>", "<unk>", "a"]}, "itos has no <eos> token"),
        ({"itos": ["a", *NAMES]}, "itos must have <pad> at position 0, got 'a'"),
        ({"itos": [*NAMES, "ab"]}, "characters must hold single characters, got 'ab'"),
        ({"itos": [*NAMES, "a", "a"]}, "itos must be free of duplicates, got 'a' twice"),
        ({"itos": [*NAMES, ""]}, "itos must hold only non-empty strings, got ''"),
        ({"itos": [*NAMES, 7]}, "itos must hold only non-empty strings, got 7"),
        ({"itos": [*NAMES, "\ud800"]}, r"itos must be free of lone surrogates, got '\ud800'"),
        ({"itos": {"a": 1}}, "itos must be a list of strings, got {'a': 1}"),
        ({**GOOD, "type": "word"}, "type must be 'char' or 'identity', got 'word'"),
        (GOOD, "special_tokens must be a list of strings, got None"),
        (
            {**GOOD, "special_tokens": NAMES[:3], "characters": []},
            "special_tokens must name pad, bos, eos, unk, got ('<pad>', '<bos>', '<eos>')",
        ),
        (
            {**GOOD, "special_tokens": [*NAMES, "x"], "characters": ["x"]},
            "special_tokens must have 2 characters or more, got 'x'",
        ),
        ({**GOOD, "special_tokens": NAMES, "characters": "ab"}, "characters must be a list of strings, got 'ab'"),
    ],
)
def test_malformed_files_are_one_line(content: object, message: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        tokenizer_from_text(json.dumps(content))
    assert str(caught.value) == message


def test_a_giant_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apelr_tokenizers.char.LARGEST_VOCABULARY", 5)
    with pytest.raises(TokenizerError, match=r"^a vocabulary must be <= 5 ids, got 6$"):
        tokenizer_from_text(json.dumps({"itos": [*NAMES, "a", "b"]}))
