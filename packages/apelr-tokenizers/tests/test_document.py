import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_tokenizers import TokenizerError, tokenizer_from_text
from apelr_tokenizers.document import parse_document, write_document

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.one_of(st.none(), st.integers(), TEXT, st.lists(TEXT, max_size=3))


@settings(deadline=None)
@given(document=st.dictionaries(TEXT, VALUES, max_size=3))
def test_written_documents_are_read_back(document: dict[str, object]) -> None:
    assert parse_document(write_document(document)) == document


def test_written_documents_have_a_line_per_key_and_keep_letters() -> None:
    assert write_document({"a": ["é"], "b": 1}) == '{\n  "a": ["é"],\n  "b": 1\n}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a tokenizer file: not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "not a tokenizer file: expected a JSON object, got [1]"),
        ("[" * 100_000, "not a tokenizer file: nested too deeply"),
        ('{"a":' * 100_000, "not a tokenizer file: nested too deeply"),
        ('{"a": 1, "a": 2}', "not a tokenizer file: the key 'a' is given twice"),
        ("{}", "not a tokenizer file: none of the keys 'format', 'itos' and 'model' is there"),
        ('{"format": "other"}', "format must be 'apelr-tokenizer', got 'other'"),
        (
            '{"format": "apelr-tokenizer", "version": 2}',
            "version 2 of the tokenizer format is newer than 1, the newest this package reads; update apelr-tokenizers",
        ),
        ('{"format": "apelr-tokenizer", "version": 0}', "version must be a whole number >= 1, got 0"),
        ('{"format": "apelr-tokenizer", "version": true}', "version must be a whole number >= 1, got True"),
        ('{"format": "apelr-tokenizer", "version": 1.0}', "version must be a whole number >= 1, got 1.0"),
    ],
)
def test_what_is_no_tokenizer_file_is_one_line(text: str, message: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        tokenizer_from_text(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["1" * 5000, '{"itos": ' + "1" * 5000 + "}"])
def test_a_number_too_long_for_python_is_refused(text: str) -> None:
    with pytest.raises(TokenizerError, match=r"^not a tokenizer file: not valid JSON"):
        tokenizer_from_text(text)


def test_messages_stay_short_for_large_values() -> None:
    with pytest.raises(TokenizerError) as caught:
        tokenizer_from_text(json.dumps({"itos": {"a" * 1000: ["b" * 1000] * 1000}}))
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
