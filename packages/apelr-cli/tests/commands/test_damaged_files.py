"""Every file of a run folder and of a token cache, damaged in every way: our error names it, or it is not needed."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import Result

Apelr = Callable[..., Result]

TEXT = "".join(f"{n}. The cat sat on the mat. Who saw it?\n" for n in range(40))


def flip(path: Path) -> None:
    """One bit: in a checkpoint, most of which is padding when it is so small, of what it says; else in the middle."""
    content = bytearray(path.read_bytes())
    content[content.index(b"apelr-checkpoint") if path.suffix == ".pt" else len(content) // 2] ^= 0x10
    path.write_bytes(content)


def replace_by_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one bit flipped": flip,
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "a folder": replace_by_folder,
    "a link to itself": lambda path: replace_by_link(path, path.name),
    "a link to nothing": lambda path: replace_by_link(path, "gone"),
    "a link to a device": lambda path: replace_by_link(path, "/dev/zero"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text, a config, the run of it and its token cache."""
    from click.testing import CliRunner

    from apelr_cli.main import main

    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    loop = {"max_steps": 4, "log_interval": 1, "eval_interval": 2, "save_interval": 2, "val_batches": 1}
    content = {
        "device": "cpu",
        "model": {
            "version": "v1_filtered_mixture",
            **{"num_plan_states": 2, "chunk_size": 4, "token_dim": 3, "hidden_dim": 4, "fusion_dim": 3},
        },
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {"source": "text", "path": "text.txt", "token_cache": True, "token_cache_dir": "cache"},
        "train": {"seq_len": 8, "batch_size": 4, "out_dir": "run", **loop},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert CliRunner().invoke(main, ["train", "--config", "tiny.yaml"]).exit_code == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of it, in which the tests run."""
    copy = tmp_path / "copy"
    shutil.copytree(prepared, copy)
    monkeypatch.chdir(copy)
    return copy


def assert_named(result: Result, path: Path) -> None:
    """One line, our own, that names the file."""
    assert result.exit_code == 1, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.stderr.splitlines()[-1:] == errors
    assert path.name in errors[0]
    assert isinstance(result.exception, SystemExit), "and no traceback"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoints/step-00000002.pt"])
def test_a_checkpoint_that_is_named(apelr: Apelr, place: Path, name: str, damage: str) -> None:
    path = Path("run") / name
    DAMAGES[damage](path)
    assert_named(apelr("train", "--config", "tiny.yaml", "--resume", path), path)
    assert_named(apelr("score", "--checkpoint", path, "--text", "The cat"), path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_newest_checkpoint_is_skipped_and_said(apelr: Apelr, place: Path, damage: str) -> None:
    path = Path("run/checkpoint.pt")
    DAMAGES[damage](path)
    result = apelr("train", "--config", "tiny.yaml", "--resume", "auto", "--dry-run")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if "skipped: " in line)
    assert str(path) in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_config_of_a_run(apelr: Apelr, place: Path, damage: str) -> None:
    path = Path("run/config.yaml")
    DAMAGES[damage](path)
    result = apelr("train", "--config", path, "--resume", "auto", "--out", "run", "--dry-run")
    assert isinstance(result.exception, SystemExit), "and no traceback"
    assert result.exit_code in (1, 2)
    assert "Error: " in result.stderr


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_metrics_of_a_run(apelr: Apelr, place: Path, damage: str) -> None:
    """What was logged is not needed to go on; what cannot be read is an error all the same."""
    path = Path("run/metrics.jsonl")
    Path("run/metrics.json").unlink()
    DAMAGES[damage](path)
    result = apelr("train", "--config", "tiny.yaml", "--resume", "auto")
    if damage in ("removed", "emptied", "truncated"):
        assert result.exit_code == 0, result.output
        assert not path.is_symlink()
        assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["kind"] == "final"
    else:
        assert_named(result, path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["tokenizer.json", "run.json", "planner_eval.json"])
def test_files_that_a_run_does_not_read_again(apelr: Apelr, place: Path, name: str, damage: str) -> None:
    """The tokenizer is in the checkpoint. A folder is in the way of a file that is written anew, and named."""
    path = Path("run") / name
    Path("run/metrics.json").unlink()
    DAMAGES[damage](path)
    result = apelr("train", "--config", "tiny.yaml", "--resume", "auto")
    if damage == "a folder" and name != "tokenizer.json":
        assert_named(result, path)
    else:
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lock_file(apelr: Apelr, place: Path, damage: str) -> None:
    path = Path("run/run.lock")
    Path("run/metrics.json").unlink()
    path.write_bytes(b"12345678")
    DAMAGES[damage](path)
    result = apelr("train", "--config", "tiny.yaml", "--resume", "auto")
    if path.is_symlink() or path.is_dir():
        assert_named(result, path)
    else:
        assert result.exit_code == 0, result.output


@pytest.fixture
def spoil(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """Damages a file of the folder itself, until the next one is damaged or the test ends.

    A token cache knows its text by its place and its time of change: a copy would have none.
    """
    monkeypatch.chdir(prepared)
    spoiled: list[tuple[Path, Path]] = []

    def mend() -> None:
        for path, kept in spoiled:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            shutil.copy2(kept, path)
        spoiled.clear()

    def damage(path: Path, how: str) -> None:
        mend()
        kept = tmp_path / f"{path.name}.kept"
        shutil.copy2(path, kept)
        spoiled.append((path, kept))
        DAMAGES[how](path)

    yield damage
    mend()


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_a_token_cache(
    apelr: Apelr, prepared: Path, tmp_path: Path, spoil: Callable[[Path, str], None], damage: str
) -> None:
    files = sorted(path for path in (prepared / "cache").rglob("*") if path.is_file() and path.suffix != ".lock")
    assert len(files) == 6, "the tokenizer, the manifest, and ids and byte counts of both splits"
    for number, path in enumerate(files):
        spoil(path, damage)
        result = apelr("train", "--config", "tiny.yaml", "--out", tmp_path / str(number))
        is_sought = path.name == "manifest.json" or path.name.endswith(".tokenizer.json")
        if is_sought and damage in ("removed", "a link to nothing"):
            assert result.exit_code == 0, "what is not there is written"
        else:
            assert_named(result, path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_text_of_a_run(apelr: Apelr, place: Path, damage: str) -> None:
    path = Path("text.txt")
    Path("run/metrics.json").unlink()
    DAMAGES[damage](path)
    result = apelr("train", "--config", "tiny.yaml", "--resume", "auto")
    if damage in ("truncated", "one bit flipped"):
        assert "Error: --resume continues the same run, but its text has changed: " in result.stderr
    elif damage == "emptied":
        assert result.stderr.splitlines()[-1].startswith("Error: ")
    else:
        assert_named(result, path)
    assert result.exit_code == 1
