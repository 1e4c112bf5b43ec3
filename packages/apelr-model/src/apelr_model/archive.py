"""Checkpoint files on disk: is an archive whole, a second name for a file, and folders that last."""

import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

__all__ = ["DAMAGE", "flush_folder", "link_or_copy", "named_errors", "read_pickle", "verify_archive"]

DOS_FOLDER = 0x10
"""The bit of a zip record's attributes that makes it a folder."""

DAMAGE = (
    OSError,
    RuntimeError,
    UnpicklingError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
)
"""What zipfile and torch raise on a file that is damaged or no checkpoint."""


def verify_archive(path: Path) -> None:
    """Raise zipfile.BadZipFile where the archive, a record's header or the CRC-32 of a record is wrong.

    Records are stored plain. A flipped bit in a header could call one compressed, or a folder, whose bytes
    `torch.load` would leave unread and uninitialised. Together they are no larger than the file, so that none
    share their bytes, and no two have one name, so that every reader finds the same ones.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if not records:
            raise zipfile.BadZipFile("the archive is empty")
        for record in records:
            is_folder = record.is_dir() or record.external_attr & DOS_FOLDER
            if is_folder or record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
                raise zipfile.BadZipFile(f"header of record {record.filename} is wrong")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise zipfile.BadZipFile("its records are larger than the file")
        if len({record.filename for record in records}) < len(records) or archive.comment:
            raise zipfile.BadZipFile("its directory is wrong")
        if bad := archive.testzip():
            raise zipfile.BadZipFile(f"checksum of record {bad} is wrong")


def read_pickle(path: Path) -> bytes:
    """The archive's one pickle, `<any folder>/data.pkl`. Raises zipfile.BadZipFile where there is not exactly one."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(names) != 1:
            raise zipfile.BadZipFile(f"it holds {len(names)} records data.pkl")
        return archive.read(names[0])


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Within the block, an OSError of a file that is open, which says nothing of its name, is one of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def link_or_copy(source: Path, destination: Path) -> None:
    """Give the file a second name; where the file system has no hard links, a flushed copy."""
    try:
        os.link(source, destination)
    except (OSError, NotImplementedError, AttributeError):
        with named_errors(destination), source.open("rb") as reader, destination.open("wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())


def flush_folder(folder: Path) -> None:
    """Make a rename durable. Only POSIX systems can open a folder; elsewhere the rename alone must do."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with named_errors(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
