"""Finding the user's files and opening them, compressed or not, with errors of one line."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from apelr_data.errors import DataError, one_line

PLAIN_ENDINGS = (".txt", ".md")
ROW_ENDINGS = (".jsonl", ".csv", ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_KNOWN = f"{', '.join(PLAIN_ENDINGS + ROW_ENDINGS)}, each also with {', '.join(COMPRESSIONS)}"


def text_format(path: Path) -> str | None:
    """The ending that says how to read a file, compression left out; None when it is not known."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return endings[-1] if endings and endings[-1] in PLAIN_ENDINGS + ROW_ENDINGS else None


def find_files(key: str, wanted: str) -> list[Path]:
    """The files that a path, folder or glob names, sorted, hidden and unknown ones of a folder or glob left out.

    `key` is the setting that errors name. Raises DataError when nothing is found or nothing can be read.
    """
    path = Path(wanted).expanduser()
    try:
        if path.is_dir():
            found, visible_from = sorted(path.rglob("*")), len(path.parts)
        elif path.exists():
            return [_single_file(key, wanted, path)]
        elif any(mark in wanted for mark in "*?["):
            found, visible_from = _glob(path)
        else:
            raise DataError(f"{key}: {wanted!r} does not exist; give a file, a folder or a glob")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{key}: cannot look up {wanted!r}: {one_line(error)}") from error
    regular = [file for file in found if file.is_file()]
    if not regular:
        raise DataError(f"{key}: nothing matches {wanted!r}; it must name at least one file")
    visible = (file for file in regular if not any(part.startswith(".") for part in file.parts[visible_from:]))
    readable = [file for file in visible if text_format(file)]
    if not readable:
        raise DataError(f"{key}: no file of {wanted!r} has a known ending; known are {_KNOWN}")
    return readable


def full_path(wanted: str, found: Path | None = None) -> Path:
    """A path, folder or glob from the root on, or a file `found` by it: the same name in every working folder.

    Links and `..` are resolved in the folder that is searched. What is found in it keeps its name, which decides the
    order and how a file is read. A path that cannot be looked up comes back as it is: `find_files` says why.
    """
    path = Path(wanted)
    try:
        path = path.expanduser()
        folder = path if path.is_dir() else path.parent
        if not path.exists() and (wild := [i for i, part in enumerate(path.parts) if any(m in part for m in "*?[")]):
            folder = Path(*path.parts[: wild[0]])
        return folder.resolve() / (found or path).relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return found or path


def _single_file(key: str, wanted: str, path: Path) -> Path:
    """The file itself, if it is one and its ending is known."""
    if not path.is_file():
        raise DataError(f"{key}: {wanted!r} is not a regular file; give a file, a folder or a glob")
    if text_format(path) is None:
        raise DataError(f"{key}: {wanted!r} has an unknown ending; known are {_KNOWN}")
    return path


def _glob(path: Path) -> tuple[list[Path], int]:
    """What a glob matches, sorted, and how many leading parts of a match hold no wild card."""
    fixed = next(i for i, part in enumerate(path.parts) if any(mark in part for mark in "*?["))
    pattern = path.parts[fixed:]
    if pattern[-1] == "**":  # before Python 3.13 a closing ** matches folders alone
        pattern = (*pattern, "*")
    return sorted(set(Path(*path.parts[:fixed]).glob("/".join(pattern)))), fixed


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed by its ending; what goes wrong while it is open is a DataError."""
    try:
        with path.open("rb") as file, _decompressed(file, path.suffix.lower()) as stream:
            yield stream
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"cannot read {str(path)!r}: {one_line(error)}") from error


def _decompressed(file: IO[bytes], ending: str) -> IO[bytes]:
    """The stream of the decompressed bytes."""
    if ending == ".gz":
        return cast(IO[bytes], gzip.open(file))
    if ending == ".bz2":
        return cast(IO[bytes], bz2.open(file))
    if ending == ".xz":
        return lzma.open(file)
    if ending == ".zst":
        import pyarrow  # slow to import, and its zstd needs no further package

        return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
    return file
