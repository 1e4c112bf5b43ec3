"""Recognising files, and fuzzing: whatever is in a file, only TokenizerError comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apelr_tokenizers import (
    BpeTokenizer,
    CharTokenizer,
    IdentityTokenizer,
    Tokenizer,
    TokenizerConfig,
    TokenizerError,
    fit_tokenizer,
    load_tokenizer,
    tokenizer_from_text,
)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "a", "<pad>", "ByteLevel", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def valid(prototype_char: str) -> list[str]:
    """Return small valid files of every form."""
    texts = ["a b a b", "ab ab <pad> é"]
    ways: list[dict[str, Any]] = [
        {"type": "char"},
        {"type": "identity", "vocab_size": 9, "min_frequency": 2},
        {"type": "bpe", "vocab_size": 263, "normalizer": "nfkc", "lowercase": True},
        {"type": "bpe", "byte_level": False},
    ]
    fitted = [fit_tokenizer(TokenizerConfig(**{"min_frequency": 1, **way}), texts).to_text() for way in ways]
    return [*fitted, prototype_char]


def try_to_use(text: str) -> None:
    try:
        tokenizer = tokenizer_from_text(text)
    except TokenizerError:
        return
    encoding = tokenizer.encode("ab <pad> é…日\0")
    assert sum(encoding.byte_counts) == len("ab <pad> é…日\0".encode())
    tokenizer.decode(range(tokenizer.vocab_size))
    assert tokenizer_from_text(tokenizer.to_text()).fingerprint == tokenizer.fingerprint


@FUZZED
@given(data=st.data())
def test_cut_and_spliced_files(valid: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(valid))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 20)))
        piece = data.draw(st.sampled_from(["", "{", "]", ",", '"', "0", "-1", "null", '"a"', "[]", "\\u0000", "é"]))
        text = text[:start] + piece + text[end:]
    try_to_use(text)


@FUZZED
@given(data=st.data())
def test_files_with_changed_values(valid: list[str], data: st.DataObject) -> None:
    content: Any = json.loads(data.draw(st.sampled_from(valid)))
    for _ in range(data.draw(st.integers(1, 2))):
        node, depth = content, data.draw(st.integers(1, 4))
        for level in range(depth):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if level < depth - 1 and isinstance(node[key], dict | list):
                node = node[key]
                continue
            if data.draw(st.booleans()):
                node[key] = data.draw(JSON_VALUES)
            else:
                del node[key]
            break
    try_to_use(json.dumps(content))


@FUZZED
@given(value=JSON_VALUES)
def test_any_json(value: object) -> None:
    try_to_use(json.dumps(value))
    for key in ("format", "itos", "model"):
        try_to_use(json.dumps({key: value}))


@FUZZED
@given(text=st.text())
def test_any_text(text: str) -> None:
    try_to_use(text)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("char", CharTokenizer),
        ("char-prototype", CharTokenizer),
        ("identity", IdentityTokenizer),
        ("bpe", BpeTokenizer),
        ("bpe-prototype", BpeTokenizer),
    ],
)
def test_every_form_is_recognised(kind: str, expected: type, kinds: dict[str, Tokenizer], tmp_path: Path) -> None:
    kinds[kind].save(tmp_path / "any-name")
    assert isinstance(load_tokenizer(tmp_path / "any-name"), expected)


def test_the_prototypes_forms_are_recognised(prototype_char: str, prototype_bpe: str, tmp_path: Path) -> None:
    for form in (prototype_char, prototype_bpe):
        (tmp_path / "tokenizer.json").write_text(form, encoding="utf-8")
        tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
        assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
        text = "Ada was glad."
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_message_begins_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(path)
    assert str(caught.value).startswith(f"{path}: not a tokenizer file: none of the keys")


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == f"{tmp_path}: not a regular file"
