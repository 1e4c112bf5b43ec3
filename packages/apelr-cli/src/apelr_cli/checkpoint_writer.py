"""When files of checkpoints are written: at once, or by a thread of its own while training goes on."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

__all__ = ["CheckpointWriter"]


class CheckpointWriter:
    """Runs one piece of writing after another; `in_background` in a thread, so that only one is under way at a time.

    What a piece of writing raises comes out of the next call of any method, once.
    """

    def __init__(self, *, in_background: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "apelr-checkpoints") if in_background else None
        self._under_way: Future[None] | None = None
        self._began = time.perf_counter()
        self._waited = 0.0

    @property
    def share_of_time(self) -> float:
        """Of the time since this was made, the share that went by within `waiting`."""
        return self._waited / max(time.perf_counter() - self._began, self._waited) if self._waited else 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block the caller waits for a save: its time counts. Not to be nested."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - began

    def begin(self, write: Callable[[], None]) -> None:
        """Write, or let the thread begin to; nothing may be under way (`finish`)."""
        if self._thread is None:
            write()
        else:
            self._under_way = self._thread.submit(write)

    def check(self) -> None:
        """Raise what a piece of writing has raised; one that is still under way is left alone."""
        if self._under_way is not None and self._under_way.done():
            self.finish()

    def finish(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way is not None:
            wait([self._under_way])  # where a signal ends the wait, it is under way still
            ended, self._under_way = self._under_way, None
            ended.result()

    def close(self) -> None:
        """Wait for the thread to end, whatever comes of what it writes: it is not asked for anything more."""
        if self._thread is not None:
            self._thread.shutdown()
