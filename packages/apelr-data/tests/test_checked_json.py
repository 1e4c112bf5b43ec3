"""JSON with a checksum: any change is noticed, and differences are put into words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import DataError
from apelr_data.checked_json import differences, in_words, read_json, write_json

CONTENT = {"key": {"a": 1, "b": [1, 2]}, "text": "ä\ud800\n", "number": 0.25}


def test_it_reads_what_it_wrote(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    assert read_json(tmp_path / "a.json") == CONTENT


def test_no_file_is_no_content(tmp_path):
    assert read_json(tmp_path / "a.json") is None


def test_an_existing_file_is_not_overwritten(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "a.json", {})


@given(st.data())
def test_any_flipped_bit_and_any_cut_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, CONTENT)
    written = path.read_bytes()
    place = data.draw(st.integers(0, len(written) - 1))
    bit = data.draw(st.integers(0, 7))
    for content in (written[:place], written[:place] + bytes([written[place] ^ 1 << bit]) + written[place + 1 :]):
        path.write_bytes(content)
        found, message = outcome(path)
        # a change of white space, or of the case of a digit in an escape, changes nothing
        assert found == CONTENT or message.startswith(f"token cache: {path}: it")


def outcome(path):
    try:
        return read_json(path), ""
    except DataError as error:
        return None, str(error)


@given(st.binary(max_size=60) | st.text('{}[]",:0123nulltrue\\ ', max_size=60).map(str.encode))
def test_any_other_content_is_damage(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="write the cache anew"):
        read_json(path)


def test_too_deep_too_large_and_no_file_at_all(tmp_path, monkeypatch):
    deep, folder = tmp_path / "deep.json", tmp_path / "folder"
    deep.write_text("[" * 100_000, encoding="utf-8")
    folder.mkdir()
    with pytest.raises(DataError, match=r"deep\.json: it is not JSON; write"):
        read_json(deep)
    with pytest.raises(DataError, match="folder: it is not a regular file of at most 67108864 bytes; write"):
        read_json(folder)
    monkeypatch.setattr("apelr_data.checked_json.LARGEST_FILE", 10)
    with pytest.raises(DataError, match=r"deep\.json: it is not a regular file of at most 10 bytes; write"):
        read_json(deep)


def test_each_difference_is_a_line():
    old = {"same": 1, "text": {"source": "text", "gone": 5}, "list": [1]}
    new = {"same": 1, "text": {"source": "storyworld", "come": None}, "list": [1, 2]}
    assert differences(old, new) == [
        'text.source: "text" -> "storyworld"',
        "text.gone: 5 -> not set",
        "list: [1] -> [1, 2]",
        "text.come: not set -> null",
    ]
    assert differences(old, json.loads(json.dumps(old))) == []


def test_long_values_and_many_differences_are_cut():
    (line,) = differences({"a": "x" * 100}, {"a": ""})
    assert line == f'a: "{"x" * 58}… -> ""'
    assert in_words(list("abcde")) == "a; b; c; d; e"
    assert in_words(list("abcdefg")) == "a; b; c; d; e; and 2 more"
