"""The only disk access: reading a bounded regular file, writing a file whole or not at all."""

import os
import secrets
import stat
from pathlib import Path

from apelr_tokenizers.errors import TokenizerError

LARGEST_FILE = 64 * 1024 * 1024
"""Bytes; the largest published tokenizer files are about half of this."""


def read_text(path: Path) -> str:
    """Return the UTF-8 text of `path`. Raises TokenizerError, naming the file, when that is not possible.

    Nothing but a regular file is opened (a pipe could block for ever), and no more than the bound is read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TokenizerError(f"{path}: not a regular file")
        if status.st_size > LARGEST_FILE:
            raise TokenizerError(f"{path}: {status.st_size} bytes, more than the {LARGEST_FILE} allowed")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, TokenizerError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TokenizerError(f"{path}: cannot be read: {reason}") from error
    if len(content) > LARGEST_FILE:
        raise TokenizerError(f"{path}: more than the {LARGEST_FILE} bytes allowed")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: not UTF-8 text (byte {error.start})") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8 with LF newlines, replacing what is there in one step.

    The text goes to a temporary name in the same folder first. On failure that file is removed, `path`
    is as it was, and the OSError passes on.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # gone already when it has become `path`
