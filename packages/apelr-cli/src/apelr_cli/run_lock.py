"""One run at a time in a run folder: the process that trains in it holds a lock, which ends with the process."""

from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from apelr_cli.run_folder import LOCK_NAME, RunError

__all__ = ["RunLock"]


class RunLock:
    """The lock on a run folder, let go of at the end of the `with` block. Taking it twice is taking it once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK_NAME)

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release(force=True)

    def take_if_used(self) -> None:
        """Take the lock where a run has been in the folder; else write nothing. Raises RunError where one is in it."""
        if (self._folder / LOCK_NAME).exists():
            self.take()

    def take(self) -> None:
        """Make the folder and take the lock. Raises RunError where another process trains in it, and OSError."""
        if self._lock.is_locked:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"another process trains in {self._folder}: wait for it or stop it, or give another folder with --out"
            ) from error
