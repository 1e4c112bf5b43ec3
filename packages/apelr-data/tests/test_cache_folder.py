"""The folder of token caches: whole or not at all, one writer at a time."""

import itertools
import time
from pathlib import Path

import pytest

from apelr_data import DataConfig, DataError
from apelr_data.cache_folder import cache_root, new_entry, only_writer, state_of


def names(root):
    return sorted(path.name for path in root.iterdir())


def test_where_caches_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root(DataConfig()) == tmp_path / ".cache/apelr/tokens"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(DataConfig()) == tmp_path / "xdg/apelr/tokens"
    assert cache_root(DataConfig(token_cache_dir="here")) == Path("here")
    assert cache_root(DataConfig(token_cache_dir="~/there")) == tmp_path / "there"


def test_without_a_home_a_folder_is_asked_for(monkeypatch):
    def nowhere(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(DataError, match=r"^~/\.cache cannot be found: .*; set data\.token_cache_dir$"):
        cache_root(DataConfig())


def test_an_entry_takes_the_place_of_the_old_one(tmp_path):
    for content in ("old", "new"):
        with new_entry(tmp_path, "a") as partial:
            partial.mkdir()
            (partial / content).write_text(content, encoding="utf-8")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


def test_a_new_entry_is_another_one_even_with_the_same_content(tmp_path):
    states = [state_of(tmp_path / "a")]
    for _ in range(3):
        with new_entry(tmp_path, "a") as partial:
            partial.write_text("x", encoding="utf-8")
        states.append(state_of(tmp_path / "a"))
        assert state_of(tmp_path / "a") == states[-1]
    assert states[0] is None
    assert all(before != after for before, after in itertools.pairwise(states))


def test_an_entry_may_be_a_file_and_replace_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with new_entry(tmp_path, "a") as partial:
        partial.write_text("x", encoding="utf-8")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "x"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, DataError])
def test_after_an_error_or_a_stop_all_is_as_before(tmp_path, error):
    (tmp_path / "a").write_text("old", encoding="utf-8")
    with pytest.raises(error), new_entry(tmp_path, "a") as partial:
        partial.mkdir()
        (partial / "half").write_text("x", encoding="utf-8")
        raise error
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("after", ["first", "second"])
def test_a_stop_between_or_behind_the_renames_leaves_one_whole_entry(tmp_path, monkeypatch, after):
    with new_entry(tmp_path, "a") as partial:
        partial.write_text("old", encoding="utf-8")
    rename, done = Path.rename, []

    def stopping(self, target):
        rename(self, target)
        done.append(target)
        if len(done) == (1 if after == "first" else 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", stopping)
    with pytest.raises(KeyboardInterrupt), new_entry(tmp_path, "a") as partial:
        partial.write_text("new", encoding="utf-8")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == ("old" if after == "first" else "new")


def test_an_entry_that_a_killed_writer_had_moved_away_comes_back(tmp_path):
    (tmp_path / ".a.old").write_text("old", encoding="utf-8")
    with pytest.raises(DataError), new_entry(tmp_path, "a"):
        raise DataError("no text")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"


def test_what_a_killed_writer_left_is_removed(tmp_path):
    for left in (".a.partial", ".a.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").write_text("x", encoding="utf-8")
    with new_entry(tmp_path, "a") as partial:
        partial.mkdir()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == []


def test_errors_of_the_disk_name_the_cache_and_the_setting(tmp_path):
    with pytest.raises(DataError) as caught, only_writer(tmp_path, "a", list):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"cannot write the token cache {tmp_path / 'a'}: No space left on device; "
        "another folder can be given in data.token_cache_dir"
    )
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot write the token cache .*; another folder"):
        only_writer(tmp_path / "file", "a", list).__enter__()


HOLD = """
import sys, time
from pathlib import Path
from apelr_data.cache_folder import only_writer
root = Path(sys.argv[1])
with only_writer(root, "a", list):
    (root / "held").touch()
    while not (root / "go on").exists():
        time.sleep(0.01)
    (root / "released").touch()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_another_process_is_waited_for_however_it_ends(tmp_path, start_python, killed):
    process = start_python(HOLD, str(tmp_path))
    while not (tmp_path / "held").exists():
        assert process.poll() is None
        time.sleep(0.01)

    def waiting():
        assert not (tmp_path / "released").exists()
        told.append(True)
        process.kill() if killed else (tmp_path / "go on").touch()

    told = []
    with only_writer(tmp_path, "a", waiting):
        assert (tmp_path / "released").exists() is not killed
    assert told == [True]
    process.wait()
    with only_writer(tmp_path, "a", waiting), only_writer(tmp_path, "b", waiting):
        pass
    assert told == [True]
