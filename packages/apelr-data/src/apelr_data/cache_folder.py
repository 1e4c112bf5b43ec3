"""The folder of token caches: one writer at a time, and what it writes appears whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from apelr_data.config import DataConfig
from apelr_data.errors import DataError, one_line


def cache_root(config: DataConfig) -> Path:
    """`data.token_cache_dir`, or apelr/tokens in the user's cache folder. Raises DataError where there is no home."""
    given = config.token_cache_dir or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        root = Path(given).expanduser()
    except RuntimeError as error:
        raise DataError(f"{given} cannot be found: {one_line(error)}; set data.token_cache_dir") from error
    return root if config.token_cache_dir else root / "apelr" / "tokens"


def state_of(path: Path) -> tuple[int, int] | None:
    """Another value whenever a new entry has come to this path; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def only_writer(root: Path, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on the entry `name` of the folder; another process that writes it is waited for.

    `waiting` is called once before that. The lock ends with its process, however that ends. An OSError in the block
    becomes a DataError that names the folder.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise DataError(
            f"cannot write the token cache {root / name}: {reason}; another folder can be given in data.token_cache_dir"
        ) from error


@contextmanager
def new_entry(root: Path, name: str) -> Iterator[Path]:
    """A path to write a file or folder at, which becomes the entry `name` at the end of the block.

    The old entry is then gone. After any error, and after a stop, there is the old entry or the new one, whole, and
    nothing else is left; what a killed process left is put right here. Only for the holder of the lock.
    """
    partial, final, old = root / f".{name}.partial", root / name, root / f".{name}.old"
    try:
        _restore(old, final)
        _remove(partial)
        yield partial
        _to_disk(partial)
        if final.exists():
            final.rename(old)
        partial.rename(final)
        _to_disk(root)
    finally:
        with suppress(OSError):  # the error on the way tells more
            _restore(old, final)
            _remove(partial)


def _restore(old: Path, final: Path) -> None:
    """Put an entry that was moved away back where nothing has taken its place; else remove it."""
    if old.exists() and not final.exists():
        old.rename(final)
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Bring the names in a folder to the disk, where the platform can; a file's content is its writer's matter."""
    if path.is_dir() and os.name != "nt":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
