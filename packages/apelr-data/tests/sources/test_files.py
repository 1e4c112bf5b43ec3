"""Finding and opening the user's files."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pytest

from apelr_data import DataError
from apelr_data.sources.files import find_files, open_bytes, text_format

KNOWN = ".txt, .md, .jsonl, .csv, .parquet, each also with .gz, .bz2, .xz, .zst"
NAME_ONE = "it must name at least one file"


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.md", "sub/c.jsonl", "sub/deep/d.csv.gz", "notes.pdf", ".hidden.txt", ".git/e.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path


def names(found, folder):
    return [file.relative_to(folder).as_posix() for file in found]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", ".txt"),
        ("a.TXT", ".txt"),
        ("a.b.csv.gz", ".csv"),
        ("a.parquet.ZST", ".parquet"),
        ("a.gz", None),
        ("txt", None),
        ("a.txt.zip", None),
        ("a.json", None),
    ],
)
def test_the_ending_decides(name, kind):
    assert text_format(Path(name)) == kind


def test_a_folder_is_read_with_its_sub_folders_sorted(folder):
    expected = ["a.md", "b.txt", "sub/c.jsonl", "sub/deep/d.csv.gz"]
    assert names(find_files("data.path", str(folder)), folder) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["b.txt"]),
        ("*", ["a.md", "b.txt"]),
        ("**/*", ["a.md", "b.txt", "sub/c.jsonl", "sub/deep/d.csv.gz"]),
        ("**", ["a.md", "b.txt", "sub/c.jsonl", "sub/deep/d.csv.gz"]),
        ("s?b/[c-d].jsonl", ["sub/c.jsonl"]),
    ],
)
def test_a_glob(folder, pattern, expected):
    assert names(find_files("data.path", f"{folder}/{pattern}"), folder) == expected


def test_a_single_file_may_be_hidden_or_hold_wild_cards_and_paths_may_be_relative(folder, monkeypatch):
    assert names(find_files("data.path", str(folder / ".hidden.txt")), folder) == [".hidden.txt"]
    odd = folder / "[draft].txt"
    odd.write_bytes(b"x")
    assert find_files("data.path", str(odd)) == [odd]
    monkeypatch.chdir(folder)
    assert find_files("data.path", "b.*") == [Path("b.txt")]
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert find_files("data.path", "~/b.txt") == [folder / "b.txt"]


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    inside = tmp_path / ".cache" / "corpus"
    inside.mkdir(parents=True)
    (inside / "a.txt").write_bytes(b"x")
    assert names(find_files("data.path", str(inside)), inside) == ["a.txt"]


def error_of(key, wanted):
    with pytest.raises(DataError) as caught:
        find_files(key, str(wanted))
    return str(caught.value)


def test_errors_name_the_setting_the_value_and_the_remedy(folder):
    wanted = str(folder / "nothing.txt")
    assert error_of("data.path", wanted) == f"data.path: {wanted!r} does not exist; give a file, a folder or a glob"
    wanted = str(folder / "*.csv")
    assert error_of("data.val_path", wanted) == f"data.val_path: nothing matches {wanted!r}; {NAME_ONE}"
    wanted = str(folder / "notes.pdf")
    assert error_of("data.path", wanted) == f"data.path: {wanted!r} has an unknown ending; known are {KNOWN}"
    wanted = str(folder / "*.pdf")
    assert error_of("data.path", wanted) == f"data.path: no file of {wanted!r} has a known ending; known are {KNOWN}"
    empty = folder / "empty"
    empty.mkdir()
    wanted = str(empty)
    assert error_of("data.path", wanted) == f"data.path: nothing matches {wanted!r}; {NAME_ONE}"


def test_a_path_with_a_nul_is_an_error_of_one_line():
    assert error_of("data.path", "a\0b.txt").startswith("data.path: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_only_regular_files_are_read(tmp_path):
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    wanted = str(pipe)
    expected = f"data.path: {wanted!r} is not a regular file; give a file, a folder or a glob"
    assert error_of("data.path", wanted) == expected
    assert "nothing matches" in error_of("data.path", tmp_path)


@pytest.mark.parametrize("ending", PACKERS)
def test_files_are_decompressed_by_their_ending(tmp_path, ending):
    file = tmp_path / f"a.txt{ending}"
    file.write_bytes(PACKERS[ending](b"some text\n" * 1000))
    with open_bytes(file) as stream:
        assert stream.readline() == b"some text\n"
        assert stream.read() == b"some text\n" * 999


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("content", [b"this is not compressed at all", None], ids=["plain", "cut short"])
def test_a_broken_compressed_file_is_one_line_that_names_it(tmp_path, ending, content):
    file = tmp_path / f"a.txt{ending}"
    file.write_bytes(content or PACKERS[ending](os.urandom(5000))[:-2000])
    with pytest.raises(DataError) as caught, open_bytes(file) as stream:
        stream.read()
    assert str(caught.value).startswith(f"cannot read {str(file)!r}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_bytes(b"x")

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"^cannot read .*a.txt'?: .*Permission denied"), open_bytes(file):
        pass
