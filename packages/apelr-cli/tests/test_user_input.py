import io
import json
from pathlib import Path

import pytest

from apelr_cli.user_input import InputError, decode_utf8, read_ids, read_standard_input, read_text, warn_of_unknown
from apelr_tokenizers import Tokenizer, TokenizerConfig, fit_tokenizer


def test_text_is_kept_as_it_is_but_for_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeff é\r\nb\n".encode())
    assert read_text(path) == " é\r\nb\n"


def test_invalid_utf8_is_named_by_its_byte_offset() -> None:
    with pytest.raises(InputError, match=r"^notes.txt is not UTF-8: byte 0xff at offset 3; save it as UTF-8$"):
        decode_utf8(b"\xc3\xa9a\xff", "notes.txt")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt cannot be read: No such file"):
        read_text(tmp_path / "gone.txt")


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [None, Terminal(io.BytesIO())])
def test_no_text_comes_from_a_terminal_or_from_nowhere(
    stream: io.TextIOWrapper | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", stream)
    assert read_standard_input() is None


def test_standard_input_must_be_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\xe9")))
    with pytest.raises(InputError, match=r"^standard input is not UTF-8: byte 0xe9 at offset 2"):
        read_standard_input()


def test_ids_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(" [1, 0,\n 9]\n", encoding="utf-8")
    assert read_ids(path, 10) == [1, 0, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1, 2", "is not JSON: Extra data: line 1 column 2"),
        (b"", "is not JSON: Expecting value"),
        (b"[" * 100_000, "is not JSON: "),
        (b"\xff", "is not UTF-8: byte 0xff at offset 0"),
        (b'{"ids": [1, 2]}', "must hold a JSON list of ids, got an object"),
        (b"7", "must hold a JSON list of ids, got the number 7"),
        (b"null", "must hold a JSON list of ids, got null"),
        (b"[1, 2.0]", "must hold integers, got the number 2.0 at index 1"),
        (b'[1, "2"]', "must hold integers, got a string at index 1"),
        (b"[true, 1]", "must hold integers, got true or false at index 0"),
        (b"[1, [2]]", "must hold integers, got a list at index 1"),
        (b"[1, NaN]", "must hold integers, got the number nan at index 1"),
        (b"[1, 10]", "must hold ids in 0 .. 9, got 10 at index 1"),
        (b"[-1, 1]", "must hold ids in 0 .. 9, got -1 at index 0"),
        (b"[1]", "must hold at least 2 ids (one to read, one to predict), got 1"),
        (b"[]", "must hold at least 2 ids (one to read, one to predict), got 0"),
    ],
)
def test_a_bad_file_of_ids_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "ids.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_ids(path, 10)
    assert str(error.value).startswith(f"{path} {message}")
    assert "\n" not in str(error.value)


def test_unknown_characters_are_named_with_their_counts(char: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    text = "the Ünü cat\n\n"
    warn_of_unknown(char, text, char.encode(text))
    assert capsys.readouterr().err == (
        "Warning: 4 characters are unknown to the tokenizer and read as <unk>: 'Ü' (1), 'ü' (1), '\\n' (2)\n"
    )


def test_one_unknown_character_is_singular(char: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown(char, "X", char.encode("X"))
    assert capsys.readouterr().err == "Warning: 1 character is unknown to the tokenizer and read as <unk>: 'X' (1)\n"


def test_many_unknown_characters_are_counted(char: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    text = "ABCDEFGHIJKLM"
    warn_of_unknown(char, text, char.encode(text))
    line = capsys.readouterr().err
    assert "'J' (1) and 3 others" in line
    assert "'K'" not in line


def test_known_text_gives_no_warning(char: Tokenizer, bpe: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown(char, "the cat", char.encode("the cat"))
    warn_of_unknown(bpe, "Ünü", bpe.encode("Ünü"))
    assert capsys.readouterr().err == ""


def test_integers_of_any_size_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps([1, 10**30]), encoding="utf-8")
    with pytest.raises(InputError, match="at index 1"):
        read_ids(path, 10)


def test_characters_are_not_named_where_what_is_known_depends_on_those_around(
    capsys: pytest.CaptureFixture[str],
) -> None:
    numbers = fit_tokenizer(TokenizerConfig(type="identity", vocab_size=68), [])
    warn_of_unknown(numbers, "17 4 99", numbers.encode("17 4 99"))
    assert capsys.readouterr().err == "Warning: 3 characters are unknown to the tokenizer and read as <unk>\n"
