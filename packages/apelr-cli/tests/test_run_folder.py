"""The run folder: who may write into it, and that small files are whole or absent."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from apelr_cli.run_folder import OWN_FILES, RunError, RunFolder, environment


def test_a_new_or_empty_folder_is_free(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new").refuse_unless_empty()
    RunFolder(tmp_path).refuse_unless_empty()


def test_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(RunError, match="is not empty: go on with --resume auto, start afresh with --force"):
        RunFolder(tmp_path).refuse_unless_empty()


def test_clear_removes_own_files_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    run = tmp_path / "run"
    run.mkdir()
    for name in OWN_FILES:
        (run / name).touch()
    (run / "checkpoints").unlink()
    (run / "checkpoints").symlink_to(outside, target_is_directory=True)
    (run / "other").touch()
    RunFolder(run).clear()
    assert sorted(path.name for path in run.iterdir()) == ["other", "run.lock"]
    assert (outside / "precious").exists()


def test_a_run_that_never_saved_counts_as_not_started(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "tokenizer.json.tmp").touch()  # it was killed while writing this
    assert folder.holds_only_unstarted_run()
    (tmp_path / "notes").touch()
    assert not folder.holds_only_unstarted_run()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_small_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    folder = RunFolder(tmp_path)
    folder.write_text("run.json", "old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space left"):
        folder.write_text("run.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == "old"


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("metrics.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}})
    content = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert content == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_metrics_after_a_step_are_forgotten_with_a_broken_last_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append_metrics({"kind": "train", "step": step})
    (tmp_path / "metrics.json").touch()
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')
    assert [line["step"] for line in folder.metrics()] == [1, 2, 3]
    folder.forget_metrics_after(2)
    assert [line["step"] for line in folder.metrics()] == [1, 2]
    assert not folder.is_finished


def test_lines_that_stay_are_not_written_otherwise_than_they_were(tmp_path: Path) -> None:
    """Not even what is no text: half of a surrogate pair."""
    line = '{"kind": "preview", "step": 1,  "text": "\\ud800 é \u2028"}\n'
    (tmp_path / "metrics.jsonl").write_text(line, encoding="utf-8")
    RunFolder(tmp_path).forget_metrics_after(1)
    assert (tmp_path / "metrics.jsonl").read_text(encoding="utf-8") == line


@pytest.mark.parametrize(
    "line", ["[]", "1", "{}", '{"kind": "train"}', '{"step": 1}', '{"kind": "train", "step": "1"}']
)
def test_a_line_of_metrics_that_no_run_writes_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"kind": "train", "step": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.jsonl holds a line without step and kind, line 2; remove the file"):
        RunFolder(tmp_path).metrics()


@pytest.mark.parametrize("line", ["{", "[" * 100_000, "nonsense"])
def test_a_line_of_metrics_that_is_not_json_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.jsonl holds a line that is not JSON; remove it to go on"):
        RunFolder(tmp_path).metrics()


@pytest.mark.parametrize("kind", ["folder", "/dev/zero", "metrics.jsonl", "gone"])
def test_what_is_no_file_in_place_of_the_metrics_is_named_and_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir() if kind == "folder" else path.symlink_to(kind)
    with pytest.raises(RunError, match=r"metrics\.jsonl is not a regular file; remove it to go on"):
        RunFolder(tmp_path).metrics()


@pytest.mark.parametrize("target", ["/dev/zero", "run.json", "gone"])
def test_a_small_file_that_is_none_is_taken_for_empty(tmp_path: Path, target: str) -> None:
    (tmp_path / "run.json").symlink_to(target)
    assert RunFolder(tmp_path).read_json("run.json") == {}


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RunFolder(tmp_path / "gone").write_text("run.json", "{}")
    assert not (tmp_path / "gone").exists()


def test_environment_names_versions_and_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment()["git_revision"] is None
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "n")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "e@example.invalid")
    (tmp_path / "a").write_text("1", encoding="utf-8")
    for command in (["init", "-q"], ["add", "a"], ["commit", "-qm", "x"]):
        subprocess.run(["git", *command], check=True)
    revision = environment()["git_revision"]
    assert len(revision) == 40
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert environment()["git_revision"] == f"{revision}+changes"
    assert set(environment()["versions"]) >= {"python", "torch", "apelr-model", "apelr-cli"}


def test_environment_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **named: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert environment()["git_revision"] is None


def test_a_folder_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    writer, other = RunFolder(tmp_path), RunFolder(tmp_path, writes=False)
    writer.write_text("config.yaml", "seed: 1\n")
    writer.append_metrics({"kind": "train", "step": 3})
    other.write_text("config.yaml", "seed: 2\n")
    other.write_json("run.json", {})
    other.append_metrics({"kind": "train", "step": 4})
    other.forget_metrics_after(0)
    other.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "metrics.jsonl"]
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "seed: 1\n"
    assert other.metrics() == [{"kind": "train", "step": 3}]
