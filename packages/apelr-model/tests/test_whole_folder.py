"""A new folder is there complete, or not at all."""

import os
from pathlib import Path

import pytest

from apelr_model import new_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text="new", **options):
    with new_folder(path, **options) as partial:
        assert not path.exists() or options
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text(text)


def test_it_appears_with_all_its_files(tmp_path):
    write(tmp_path / "made")
    assert (tmp_path / "made" / "inner" / "file").read_text() == "new"
    assert names(tmp_path) == ["made"]


def test_what_is_there_is_refused_or_replaced_whole(tmp_path):
    write(tmp_path / "made", "old")
    (tmp_path / "made" / "more").touch()
    with pytest.raises(FileExistsError, match=r"made exists$"):
        write(tmp_path / "made")
    assert (tmp_path / "made" / "inner" / "file").read_text() == "old"
    write(tmp_path / "made", replace=True)
    assert (tmp_path / "made" / "inner" / "file").read_text() == "new"
    assert names(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["inner"]


@pytest.mark.parametrize("there", [False, True])
def test_after_an_error_there_is_what_was_there(tmp_path, there):
    if there:
        write(tmp_path / "made", "old")

    def fail():
        with new_folder(tmp_path / "made", replace=True) as partial:
            (partial / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == (["made"] if there else [])


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.rename"])
@pytest.mark.parametrize("failing", [1, 2])
def test_a_disk_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, call, failing):
    write(tmp_path / "made", "old")
    place, name = (os, "fsync") if call == "os.fsync" else (Path, "rename")
    real, calls = getattr(place, name), []

    def sometimes(*arguments):
        calls.append(arguments)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(place, name, sometimes)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "made", replace=True)
    assert (tmp_path / "made" / "inner" / "file").read_text() == "old"
    assert names(tmp_path) == ["made"]
