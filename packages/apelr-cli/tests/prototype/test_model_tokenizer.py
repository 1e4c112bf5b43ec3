"""Where the tokenizer of a prototype's checkpoint is searched for, and which is refused."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from apelr_cli.loading import load_model
from apelr_cli.model_tokenizer import LARGEST_FILE, find_tokenizer
from apelr_model import CheckpointError, load_checkpoint
from apelr_tokenizers import Tokenizer, TokenizerError, load_tokenizer

Make = Callable[..., Path]


def found(path: Path, given: Path | None = None) -> Tokenizer:
    return find_tokenizer(load_checkpoint(path), path, given).tokenizer


def refusal(path: Path, given: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        found(path, given)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def recorded(path: Path | str, sha256: str | None = None) -> Callable[[dict[str, Any]], None]:
    """Records a path, and a sha256 or none."""

    def change(content: dict[str, Any]) -> None:
        content.update(tokenizer_path=str(path), tokenizer_hash=sha256)

    return change


def test_beside_the_checkpoint(make_prototype: Make) -> None:
    path = make_prototype()
    assert found(path).fingerprint == load_tokenizer(path.parent / "tokenizer.json").fingerprint


@pytest.mark.parametrize("name", ["words.json", "runs/old/words.json", r"C:\runs\old\words.json"])
def test_beside_the_checkpoint_under_the_recorded_name(make_prototype: Make, name: str) -> None:
    assert found(make_prototype(tokenizer_name="words.json", change=recorded(name))).vocab_size == 25


def test_the_recorded_name_goes_before_the_usual_one(make_prototype: Make) -> None:
    path = make_prototype(kind="bpe", change=recorded("words.json"))
    shutil.move(path.parent / "tokenizer.json", path.parent / "words.json")
    (path.parent / "tokenizer.json").write_text("not this one", encoding="utf-8")
    assert found(path).vocab_size == 27


def test_the_recorded_path_comes_last(make_prototype: Make, tmp_path: Path) -> None:
    far = tmp_path / "far.json"
    path = make_prototype(change=recorded(far))
    shutil.move(path.parent / "tokenizer.json", far)
    assert found(path).vocab_size == 25
    (path.parent / "tokenizer.json").write_text("not a tokenizer", encoding="utf-8")
    assert "its tokenizer cannot be read: " in refusal(path)


def test_a_recorded_path_may_be_relative_to_where_one_is(
    make_prototype: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_prototype(change=recorded("runs/far.json"))
    (tmp_path / "runs").mkdir()
    shutil.move(path.parent / "tokenizer.json", tmp_path / "runs" / "far.json")
    assert "carries no tokenizer and none was found" in refusal(path)
    monkeypatch.chdir(tmp_path)
    assert found(path).vocab_size == 25


def test_a_run_folder_is_its_own_neighbourhood(make_prototype: Make) -> None:
    path = make_prototype()
    assert find_tokenizer(load_checkpoint(path.parent), path.parent).tokenizer.vocab_size == 25


def test_a_named_file_goes_before_all(make_prototype: Make, tmp_path: Path) -> None:
    path, named = make_prototype(), tmp_path / "named.json"
    shutil.copy(path.parent / "tokenizer.json", named)
    (path.parent / "tokenizer.json").write_text("not a tokenizer", encoding="utf-8")
    assert find_tokenizer(load_checkpoint(path), path, named).notices == ()


def test_the_recorded_sha256_picks_among_files(make_prototype: Make, tmp_path: Path) -> None:
    """A file beside it that is another one does not hide the right one at the recorded path."""
    far = tmp_path / "tokenizer.json"
    path = make_prototype(change=lambda content: content.update(tokenizer_path=str(far)))
    shutil.move(path.parent / "tokenizer.json", far)
    (path.parent / "tokenizer.json").write_text(far.read_text(encoding="utf-8").replace("y", "z"), encoding="utf-8")
    assert found(path).fingerprint == load_tokenizer(far).fingerprint


def test_a_file_with_another_sha256_is_used_only_when_it_is_named(
    make_prototype: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_prototype()
    file = path.parent / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    message = refusal(path)
    assert message.startswith(f": {file} is not the tokenizer file that it recorded, its sha256 differs;")
    assert "--tokenizer FILE" in message
    load_model(path, "cpu", tokenizer=file)
    warning = f"Warning: {file} is not the tokenizer file that {path} recorded: its sha256 differs\n"
    assert capsys.readouterr().err == warning


def test_a_sha256_in_capitals_is_the_same(make_prototype: Make) -> None:
    path = make_prototype(change=lambda content: content.update(tokenizer_hash=content["tokenizer_hash"].upper()))
    assert found(path).vocab_size == 25


def test_without_a_recorded_sha256_the_size_alone_is_compared(make_prototype: Make) -> None:
    assert found(make_prototype(metadata=False)).vocab_size == 25


def test_none_anywhere(make_prototype: Make) -> None:
    path = make_prototype(tokenizer_name=None)
    places = f"{path.parent / 'tokenizer.json'}, runs/long/gone/tokenizer.json"
    assert refusal(path).startswith(f" carries no tokenizer and none was found ({places}): name it with --tokenizer")


@pytest.mark.parametrize(
    "recorded_path", ["", "..", "/", "/dev/zero", "a\0b", "x" * 5000, "/proc/self/mem", "a\x1bb\nc"]
)
def test_a_recorded_path_that_is_no_file(make_prototype: Make, recorded_path: str) -> None:
    path = make_prototype(tokenizer_name=None, change=recorded(recorded_path))
    message = refusal(path)
    assert "carries no tokenizer" in message or "cannot be read" in message
    assert message.isprintable()


def test_no_recorded_path(make_prototype: Make) -> None:
    def change(content: dict[str, Any]) -> None:
        content.update(tokenizer_path=None, tokenizer_hash=None)

    assert found(make_prototype(change=change)).vocab_size == 25


def test_a_large_file_is_not_read(make_prototype: Make, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    path = make_prototype(tokenizer_name=None, change=recorded(large))
    assert "its tokenizer cannot be read: " in refusal(path)
    digest = hashlib.sha256(b"").hexdigest()
    path = make_prototype(tokenizer_name=None, change=recorded(large, digest))
    assert "its sha256 differs" in refusal(path)


def test_a_tokenizer_of_another_size(make_prototype: Make) -> None:
    path = make_prototype(kind="bpe", metadata=False)
    other = make_prototype(kind="char", metadata=False).parent / "tokenizer.json"
    path = make_prototype(kind="bpe", metadata=False, tokenizer_name=None)
    assert refusal(path) == ": its tokenizer has 25 ids, its model's vocabulary 27"
    assert refusal(path, other) == f": its tokenizer has 25 ids, its model's vocabulary 27 (tokenizer: {other})"


def test_a_named_file_that_is_no_tokenizer(make_prototype: Make, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"no\.json: not a tokenizer file"):
        found(make_prototype(), tmp_path / "no.json")


def test_a_checkpoint_with_a_tokenizer_takes_no_other(
    make_checkpoint: Make, char: Tokenizer, bpe: Tokenizer, tmp_path: Path
) -> None:
    run = make_checkpoint()
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_text(char.to_text(), encoding="utf-8")
    other.write_text(bpe.to_text(), encoding="utf-8")
    assert found(run, same).fingerprint == char.fingerprint
    with pytest.raises(CheckpointError, match=rf"^{other} has the fingerprint {bpe.fingerprint}, but the model was tr"):
        found(run, other)


def test_a_checkpoint_of_today_without_a_tokenizer_takes_a_named_one(
    make_checkpoint: Make, char: Tokenizer, tmp_path: Path
) -> None:
    run = make_checkpoint(changes={"tokenizer": None, "tokenizer_fingerprint": None})
    same = tmp_path / "same.json"
    same.write_text(char.to_text(), encoding="utf-8")
    assert found(run, same).fingerprint == char.fingerprint
    assert refusal(run).startswith(" carries no tokenizer: name it with --tokenizer FILE")


def test_the_option_reaches_every_command(apelr: Callable[..., Result], make_prototype: Make, tmp_path: Path) -> None:
    path, named = make_prototype(), tmp_path / "named.json"
    shutil.move(path.parent / "tokenizer.json", named)
    commands = [
        ("score", "--checkpoint", path, "--text", "the", "--format", "json", "--device", "cpu"),
        ("sample", "--checkpoint", path, "--prompt", "the", "--max-new-tokens", 1, "--device", "cpu"),
        ("convert", path, tmp_path / "new.pt"),
    ]
    for command in commands:
        assert apelr(*command).exit_code == 1
        assert apelr(*command, "--tokenizer", named).exit_code == 0
