import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_tokenizers import Tokenizer, TokenizerConfig, TokenizerError, fit_tokenizer
from apelr_tokenizers.fit import SLICE_CHARS, _slices

WAYS: list[dict[str, Any]] = [
    {"type": "char"},
    {"type": "bpe"},
    {"type": "bpe", "byte_level": False},
    {"type": "bpe", "byte_level": False, "normalizer": "nfkc", "lowercase": True},
]


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way.values())))
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def fit(texts: Any, **options: Any) -> Tokenizer:
    return fit_tokenizer(TokenizerConfig(**{"vocab_size": 300, "min_frequency": 1, **options}), texts)


def test_no_more_is_read_than_the_bound(way: dict[str, Any]) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for text in repeat("abcde abc "):
            read += 1
            yield text

    tokenizer = fit(endless(), fit_max_chars=50, **way)
    assert read == 5
    assert tokenizer.fingerprint == fit(["abcde abc "] * 5, **way).fingerprint


def test_a_document_beyond_the_bound_is_cut(way: dict[str, Any]) -> None:
    cut = fit(["one ", "two three"], fit_max_chars=7, **way)
    assert cut.fingerprint == fit(["one ", "two"], **way).fingerprint


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_texts_without_characters_are_refused(way: dict[str, Any], texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match=r"^cannot fit a tokenizer: the texts hold no characters$"):
        fit(texts, **way)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]])
def test_too_rare_characters_are_refused(way: dict[str, Any]) -> None:
    message = "^cannot fit a tokenizer: no character occurs 3 times or more$"
    with pytest.raises(TokenizerError, match=message):
        fit(["abab"], min_frequency=3, **way)


def test_one_string_is_refused(way: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"^texts must be an iterable of texts, got one string$"):
        fit("abc", **way)


def test_other_than_strings_are_refused(way: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"^texts must be strings, got b'x'$"):
        fit(["a", b"x"], **way)


def test_a_lone_surrogate_is_refused(way: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"got the lone surrogate U\+D800 at position 1"):
        fit(["fine", "a\ud800"], **way)


@pytest.mark.parametrize("error", [KeyError("mine"), ValueError("mine"), KeyboardInterrupt(), MemoryError()])
def test_what_the_texts_raise_passes_unchanged(way: dict[str, Any], error: BaseException) -> None:
    def failing() -> Iterator[str]:
        yield "some text " * 10_000
        raise error

    with pytest.raises(type(error)) as caught:
        fit(failing(), **way)
    assert caught.value is error


def test_fitting_is_deterministic_across_processes(way: dict[str, Any], texts: list[str]) -> None:
    options = {"vocab_size": 330, "min_frequency": 1, **way}
    script = (
        "import sys; from apelr_tokenizers import *\n"
        f"texts = {texts!r} * 50 + [''.join(map(chr, range(0x400, 0x500)))]\n"
        f"print(fit_tokenizer(TokenizerConfig(**{options!r}), texts).fingerprint)"
    )
    command = [sys.executable, "-c", script]
    found = {
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        for environment in _environments()
    }
    assert len(found) == 1


def _environments() -> Iterator[dict[str, str]]:
    import os

    for threads, seed in (("1", "0"), ("4", "1"), ("8", "2")):
        paths = os.pathsep.join(path for path in sys.path if path)
        yield {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}


def test_bpe_of_characters_keeps_the_most_frequent() -> None:
    tokenizer = fit(["zzz yyy x w"], type="bpe", byte_level=False, vocab_size=7)
    assert tokenizer.decode(range(tokenizer.vocab_size)) == " yz"
    assert tokenizer.encode("xyzé") == ([3, 5, 6, 3], [1, 1, 1, 2], 2)


def test_bpe_learns_what_is_frequent() -> None:
    tokenizer = fit(["the cat the dog the"], type="bpe", vocab_size=264)
    assert tokenizer.vocab_size == 264
    assert len(tokenizer.encode("the").ids) == 1
    assert fit(["the cat the dog the"], type="bpe", vocab_size=264, min_frequency=9).vocab_size == 260


def test_vocab_size_is_an_upper_bound(way: dict[str, Any], texts: list[str]) -> None:
    for size in (260, 280, 300):
        assert fit(texts, **{**way, "vocab_size": size}).vocab_size <= size


@settings(deadline=None, max_examples=30)
@given(text=st.text(alphabet="ab \n", max_size=3000).map(lambda text: text * 2))
def test_slices_are_the_text_and_bounded(text: str) -> None:
    parts = list(_slices(text))
    assert "".join(parts) == text
    assert all(len(part) <= SLICE_CHARS for part in parts)


def test_long_documents_of_words_are_cut_only_between_words() -> None:
    words = ["word" + "s" * (i % 7) for i in range(2000)]
    whole = fit([" ".join(words)], type="bpe")
    assert whole.fingerprint == fit([words[0], *(f" {word}" for word in words[1:])], type="bpe").fingerprint
