import errno
import os
from pathlib import Path

import pytest

from apelr_tokenizers import Tokenizer, TokenizerError
from apelr_tokenizers import files as files_module
from apelr_tokenizers.files import LARGEST_FILE, read_text, write_text


def test_text_is_written_as_utf8_with_lf(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "é\n…\n")
    assert (tmp_path / "file").read_bytes() == "é\n…\n".encode()
    assert read_text(tmp_path / "file") == "é\n…\n"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_save_leaves_nothing_half_written(
    step: str, kinds: dict[str, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("what was there", encoding="utf-8")
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: object, **__: object) -> None:
        raise full

    if step == "write":
        real_open = Path.open

        def open_full(self: Path, *args: object, **options: object) -> object:
            file = real_open(self, *args, **options)  # type: ignore[call-overload]
            file.flush = fail
            return file

        monkeypatch.setattr(Path, "open", open_full)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError) as caught:
        kinds["bpe"].save(path)
    monkeypatch.undo()
    assert caught.value is full
    assert path.read_text(encoding="utf-8") == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_missing_folder_is_an_os_error(kinds: dict[str, Tokenizer], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kinds["char"].save(tmp_path / "none" / "tokenizer.json")


def test_the_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.exists()))
    write_text(path, "text")
    assert seen == [False]
    assert path.exists()


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(TokenizerError, match=r"none\.json: cannot be read: No such file or directory$"):
        read_text(path)


def test_a_name_no_system_accepts() -> None:
    with pytest.raises(TokenizerError, match="cannot be read: "):
        read_text(Path("a\0b"))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=f"^{tmp_path}: not a regular file$"):
        read_text(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TokenizerError, match=r"pipe: not a regular file$"):
        read_text(tmp_path / "pipe")


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    monkeypatch.setattr(Path, "open", None)
    with pytest.raises(TokenizerError, match=r"large: 67108865 bytes, more than the 67108864 allowed$"):
        read_text(path)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"123456")

    class Small:
        st_mode, st_size = path.stat().st_mode, 3

    monkeypatch.setattr(Path, "stat", lambda _: Small)
    monkeypatch.setattr(files_module, "LARGEST_FILE", 5)
    with pytest.raises(TokenizerError, match=r"growing: more than the 5 bytes allowed$"):
        read_text(path)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"ab\xff")
    with pytest.raises(TokenizerError, match=r"latin: not UTF-8 text \(byte 2\)$"):
        read_text(tmp_path / "latin")
