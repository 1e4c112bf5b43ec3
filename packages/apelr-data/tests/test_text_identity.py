"""What decides a corpus's text: settings, files, the Python that is read; and what does not."""

import os
import platform
from pathlib import Path

import pytest

from apelr_data import DataConfig, PlantedConfig
from apelr_data.config import MixedSource
from apelr_data.text_identity import text_name, text_settings, text_state


@pytest.fixture
def files(tmp_path):
    """A folder with two text files."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    return tmp_path


def test_what_decides_no_text_is_left_out(files):
    config = DataConfig(source="text", path=str(files))
    other = DataConfig(
        source="text",
        path=str(files),
        token_cache=True,
        token_cache_dir="x",
        reuse_token_cache=False,
        order="contiguous",
        lane_rows=3,
        document_mask=True,
    )
    assert text_settings(config, 1) == text_settings(other, 2)
    assert text_state(config) == text_state(other)


@pytest.mark.parametrize("change", [{"max_train_chars": 5}, {"min_chars": 2}, {"val_fraction": 0.1}, {"path": "x"}])
def test_a_setting_that_decides_text_is_kept(change):
    config = {"source": "text", "path": "y"}
    assert text_settings(DataConfig(**config), 0) != text_settings(DataConfig(**config | change), 0)


def test_the_seed_counts_where_it_picks_the_text():
    assert text_settings(DataConfig(source="storyworld"), 1) != text_settings(DataConfig(source="storyworld"), 2)
    assert text_settings(DataConfig(source="planted"), 1) != text_settings(DataConfig(source="planted"), 2)
    assert text_settings(DataConfig(source="python_docs"), 1) == text_settings(DataConfig(source="python_docs"), 2)


def test_the_sizes_of_a_planted_source_count_where_they_are_left_out_too():
    said, unsaid = (DataConfig(source="planted", planted=planted) for planted in (PlantedConfig(), None))
    assert text_settings(said, 0) == text_settings(unsaid, 0)
    assert text_settings(unsaid, 0)["planted"]["num_plans"] == 4
    assert text_settings(DataConfig(source="planted", planted=PlantedConfig(overlap=0.2)), 0) != text_settings(said, 0)


def test_files_count_by_name_size_and_time(files):
    config = DataConfig(source="text", path=str(files), val_path=str(files / "b.txt"))
    before = text_state(config)
    assert set(before["files"]) == {str(files / "a.txt"), str(files / "b.txt")}
    assert text_state(config) == before
    os.utime(files / "a.txt", ns=(1, 1))
    touched = text_state(config)
    assert touched["files"][str(files / "a.txt")] == "5 bytes, changed at 1 ns"
    assert touched["files"][str(files / "b.txt")] == before["files"][str(files / "b.txt")]
    (files / "c.md").write_text("c", encoding="utf-8")
    assert len(text_state(config)["files"]) == 3


def test_a_relative_path_counts_with_its_folder(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    monkeypatch.setenv("USERPROFILE", str(files))
    (files / "below").mkdir()
    for typed, below in (("a.txt", "../a.txt"), ("*.txt", "../*.txt"), (".", ".."), ("a.txt", "~/a.txt")):
        for keys in ({"path": typed}, {"path": "~/b.txt", "val_path": typed}):
            other = {key: below if path == typed else path for key, path in keys.items()}
            ours, theirs = DataConfig(source="text", **keys), DataConfig(source="text", **other)
            monkeypatch.chdir(files)
            settings, state = text_settings(ours, 0), text_state(ours)
            assert all(Path(settings[key]).is_absolute() for key in keys)
            assert all(Path(name).is_absolute() for name in state["files"])
            monkeypatch.chdir(files / "below")
            assert text_settings(ours, 0) != settings
            assert (text_settings(theirs, 0), text_state(theirs)) == (settings, state)


def test_a_glob_is_found_below_a_folder_whose_name_looks_like_one(files, monkeypatch):
    (files / "x[1]").mkdir()
    (files / "x[1]" / "c.txt").write_text("c", encoding="utf-8")
    monkeypatch.chdir(files / "x[1]")
    for path in ("*.txt", "c.txt", "."):
        assert list(text_state(DataConfig(source="text", path=path))["files"]) == [str(files / "x[1]" / "c.txt")]


def test_a_dataset_s_folder_counts_with_its_place_and_an_id_as_it_is(files, monkeypatch):
    (files / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(files)
    config = DataConfig(source="hf", path="owner/name")
    assert text_settings(config, 0)["path"] == str(files / "owner" / "name")
    mixture = DataConfig(sources=(MixedSource(source="hf", path="owner/name"),))
    assert text_settings(mixture, 0)["sources"][0]["path"] == str(files / "owner" / "name")
    monkeypatch.chdir(files / "owner")
    assert text_settings(config, 0)["path"] == "owner/name"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_counts_by_what_it_leads_to(files):
    (files / "b.txt").write_text("B.txt", encoding="utf-8")
    for name in ("a.txt", "b.txt"):
        os.utime(files / name, ns=(3, 3))
    (files / "links").mkdir()
    states = []
    for target in ("a.txt", "b.txt"):
        (files / "links" / "c.txt").unlink(missing_ok=True)
        (files / "links" / "c.txt").symlink_to(files / target)
        states.append(text_state(DataConfig(source="text", path=str(files / "links"))))
    assert states[0] != states[1]
    assert list(states[0]["files"]) == [str(files / "links" / "c.txt")]


def test_python_s_own_text_is_that_of_one_python():
    assert text_state(DataConfig(source="python_docs")) == {"files": {}, "python": platform.python_version()}
    assert text_state(DataConfig(source="storyworld")) == {"files": {}}


def test_a_local_dataset_s_files_count_too(files):
    (files / "below").mkdir()
    (files / "below" / "c.parquet").write_text("c", encoding="utf-8")
    state = text_state(DataConfig(source="hf", path=str(files)))
    assert {Path(name).name for name in state["files"]} == {"a.txt", "b.txt", "c.parquet"}
    assert text_state(DataConfig(source="hf", path="owner/name")) == {"files": {}}


def test_of_a_mixture_every_source_counts_and_the_keys_of_a_single_one_do_not(files):
    own = {"source": "text", "path": str(files / "a.txt")}
    mixture = DataConfig(sources=(MixedSource(**own, weight=2.0), MixedSource(source="python_docs")))
    assert text_name(mixture) == "text+python_docs"
    assert text_settings(mixture, 1) == text_settings(mixture, 2)
    assert "source" not in text_settings(mixture, 1)
    assert [each["weight"] for each in text_settings(mixture, 1)["sources"]] == [2.0, 1.0]
    assert text_state(mixture) == {**text_state(DataConfig(**own)), "python": platform.python_version()}
    stories = DataConfig(sources=(MixedSource(source="storyworld"), MixedSource(**own)))
    assert text_settings(stories, 1) != text_settings(stories, 2)


def test_a_name_stays_short():
    mixture = DataConfig(sources=(MixedSource(source="storyworld"),) * 9)
    assert len(text_name(mixture)) == 40
