"""A folder that appears complete or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apelr_model.archive import flush_folder

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to write files into, which becomes `path` at the end of the block, its files on the disk.

    After any error there is what was there before, and nothing else. With `replace` a folder at `path` is replaced;
    FileExistsError for anything that is there without it, and FileNotFoundError where the parent folder is not there.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists")
    partial, old = (path.with_name(f".{path.name}.{secrets.token_hex(6)}.{end}") for end in ("tmp", "old"))
    partial.mkdir()
    try:
        yield partial
        _to_disk(partial)
        if path.exists():
            path.rename(old)
        try:
            partial.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        flush_folder(path.parent)
    finally:
        for left in (partial, old if path.exists() else partial):
            shutil.rmtree(left, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        else:
            flush_folder(path)
    flush_folder(folder)
