"""The tokenizer of a checkpoint: the one it carries, or, for files of the prototype, one that is searched for."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from apelr_model import Checkpoint, CheckpointError, RecordedTokenizer
from apelr_tokenizers import Tokenizer, TokenizerError, load_tokenizer, tokenizer_from_text

__all__ = ["FoundTokenizer", "find_tokenizer"]

USUAL_NAME = "tokenizer.json"
LARGEST_FILE = 64 * 1024 * 1024
"""Bytes; larger files are not looked into."""
HOW = "name it with --tokenizer FILE (before training on: apelr convert --tokenizer FILE)"


class FoundTokenizer(NamedTuple):
    """A tokenizer that has as many ids as the model."""

    tokenizer: Tokenizer
    notices: tuple[str, ...] = ()
    """What the user should be told of it, a line each."""


def find_tokenizer(checkpoint: Checkpoint, path: Path, given: Path | None = None) -> FoundTokenizer:
    """The tokenizer of the checkpoint read from `path`, which is named in messages; `given` is what the user names.

    A file of the prototype carries none. Then it is, after `given`, the file beside the checkpoint that has the
    recorded name or `tokenizer.json`, or the recorded path; where a sha256 is recorded, one that has it.
    Raises CheckpointError where none is found or it is not the model's, TokenizerError where `given` cannot be read.
    """
    if checkpoint.recorded_tokenizer is None:
        found = FoundTokenizer(_carried(checkpoint, path, given))
    elif given is not None:
        found = _named(checkpoint.recorded_tokenizer, path, given)
    else:
        found = FoundTokenizer(_searched(checkpoint.recorded_tokenizer, path))
    if found.tokenizer.vocab_size != checkpoint.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {found.tokenizer.vocab_size} ids, its model's vocabulary "
            f"{checkpoint.vocab_size}" + (f" (tokenizer: {given})" if given else "")
        )
    return found


def _carried(checkpoint: Checkpoint, path: Path, given: Path | None) -> Tokenizer:
    """The tokenizer inside; it must have the fingerprint that was recorded with it, and so must one that is given."""
    if given is not None:
        tokenizer, whose = load_tokenizer(given), f"{given}"
    elif checkpoint.tokenizer is None:
        raise CheckpointError(f"{path} carries no tokenizer: {HOW}")
    else:
        whose = f"{path}: its tokenizer"
        try:
            tokenizer = tokenizer_from_text(checkpoint.tokenizer)
        except TokenizerError as error:
            raise CheckpointError(f"{path}: its tokenizer cannot be read: {error}") from error
    unknown = given is not None and checkpoint.tokenizer is None and checkpoint.tokenizer_fingerprint is None
    if tokenizer.fingerprint != checkpoint.tokenizer_fingerprint and not unknown:
        raise CheckpointError(
            f"{whose} has the fingerprint {tokenizer.fingerprint}, but the model was trained with "
            f"{checkpoint.tokenizer_fingerprint}"
        )
    return tokenizer


def _named(recorded: RecordedTokenizer, path: Path, given: Path) -> FoundTokenizer:
    """The file the user names, even where the checkpoint recorded another."""
    tokenizer = load_tokenizer(given)
    if recorded.sha256 is None or _sha256(given) == recorded.sha256.lower():
        return FoundTokenizer(tokenizer)
    return FoundTokenizer(tokenizer, (f"{given} is not the tokenizer file that {path} recorded: its sha256 differs",))


def _searched(recorded: RecordedTokenizer, path: Path) -> Tokenizer:
    """The first file that there is; with a recorded sha256, the first that has it."""
    places = list(dict.fromkeys(_places(recorded, path)))
    files = [place for place in places if _is_file(place)]
    if not files:
        looked = ", ".join(str(place) if str(place).isprintable() else repr(str(place)) for place in places)
        raise CheckpointError(f"{path} carries no tokenizer and none was found ({looked}): {HOW}")
    if recorded.sha256 is not None:
        same = [file for file in files if _sha256(file) == recorded.sha256.lower()]
        if not same:
            raise CheckpointError(
                f"{path}: {files[0]} is not the tokenizer file that it recorded, its sha256 differs; to use it all "
                f"the same, {HOW}"
            )
        files = same
    try:
        return load_tokenizer(files[0])
    except TokenizerError as error:
        raise CheckpointError(f"{path}: its tokenizer cannot be read: {error}") from error


def _places(recorded: RecordedTokenizer, path: Path) -> Iterator[Path]:
    folder = path if path.is_dir() else path.parent
    if recorded.path:
        yield folder / (recorded.path.replace("\\", "/").rpartition("/")[2] or USUAL_NAME)
    yield folder / USUAL_NAME
    if recorded.path:
        yield Path(recorded.path)


def _is_file(path: Path) -> bool:
    """Whether there is a regular file; a recorded path may be anything, even no path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    """Of a file of bounded size, in hexadecimal digits; no digits for a larger one, which is no tokenizer."""
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    return hashlib.sha256(content).hexdigest() if len(content) <= LARGEST_FILE else ""
