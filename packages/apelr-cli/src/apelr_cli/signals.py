"""Signals: asked to stop, finish the step, save, and leave with 128 + the signal's number; asked to save, save."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

__all__ = ["StopRequest", "StopTraining"]

Item = TypeVar("Item")

STOP_NAMES = ("SIGINT", "SIGTERM")
"""Signals that stop a run; a platform may lack one."""
SAVE_NAME = "SIGUSR1"
"""The signal that makes a run save; some platforms lack it."""
NO_SIGNAL = 0
"""The number that tells the watching thread that the block has ended."""
GRACE_SECONDS = 10.0
"""How long a run that is to leave at once may take: native code hears of a signal only at its end."""


class StopTraining(SystemExit):
    """Raised after a signal; as a SystemExit no handler of ordinary errors, nor of panics, swallows it."""

    def __init__(self, number: int, *, at_safe_point: bool) -> None:
        super().__init__(128 + number)
        self.exit_code = 128 + number
        self.signal_name = signal.Signals(number).name
        self.at_safe_point = at_safe_point
        """Whether it was raised between steps, so that the state may be saved."""


class StopRequest:
    """Installs the handlers for the time of a `with` block and puts the old ones back after it.

    While `deferred` is false (data are being prepared, nothing is to be saved) a signal raises StopTraining at
    once. While it is true the first signal is remembered, for `check`; the second one raises at once. Where what is
    raised at once has not ended the block after 10 seconds, the process is ended by force, with the same exit code.
    SIGUSR1 is remembered for `check`, which calls `on_save`.

    Of several processes that train together all stop, or save, where one has got a signal: each calls `check`, or takes
    items from `watch`, as often as the others, and `agree` gives all of them the largest of their numbers.
    """

    def __init__(self, agree: Callable[[int], int] = int) -> None:
        self._agree, self._is_alone = agree, False
        self.deferred = False
        self.on_save: Callable[[], None] = lambda: None
        """Saves, at a moment at which the state may be saved."""
        self._received: int | None = None
        self._asked_to_save = False
        self._previous: dict[int, object] = {}
        self._stops = [getattr(signal, name) for name in STOP_NAMES if hasattr(signal, name)]

    def __enter__(self) -> "StopRequest":
        heard, self._heard = socket.socketpair()
        self._heard.setblocking(False)
        self._previous_wakeup = signal.set_wakeup_fd(self._heard.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._end_in_time, args=[heard], name="apelr-signals", daemon=True)
        self._watcher.start()
        for number in self._stops:
            self._previous[number] = signal.signal(number, self._on_signal)
        if hasattr(signal, SAVE_NAME):
            self._previous[getattr(signal, SAVE_NAME)] = signal.signal(getattr(signal, SAVE_NAME), self._on_save)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        # Not the end of the stream: a process that was forked within the block holds its other end, too.
        self._heard.send(bytes([NO_SIGNAL]))
        self._watcher.join()
        self._heard.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None or not self.deferred:
            raise StopTraining(number, at_safe_point=False)
        self._received = number

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_save = True

    def _end_in_time(self, heard: socket.socket) -> None:
        """In a thread of its own, which hears of a signal whatever the main one does: end the process if it must be."""
        received = 0
        leaving: int | None = None
        with heard:
            while True:
                try:
                    numbers = heard.recv(64)
                except TimeoutError:
                    os._exit(128 + leaving if leaving else 1)
                if NO_SIGNAL in numbers:
                    return
                for number in numbers:
                    received += number in self._stops
                    if leaving is None and number in self._stops and (received > 1 or not self.deferred):
                        leaving = number
                        end = time.monotonic() + GRACE_SECONDS
                if leaving is not None:
                    heard.settimeout(max(0.001, end - time.monotonic()))

    def check(self) -> None:
        """Save if a signal to any of the processes has asked for it; raise StopTraining if one has asked to stop."""
        asked = self._asked_to_save and self.deferred and not self._is_alone
        wish = 2 * (self._received or 0) + asked
        agreed = wish if self._is_alone else self._agree(wish)
        if agreed % 2:
            self._asked_to_save = False
            self.on_save()
        if agreed // 2:  # which saves, too
            raise StopTraining(agreed // 2, at_safe_point=True)

    def watch(self, items: Iterable[Item | None]) -> Iterator[Item]:
        """The items, checking for a signal before each; a None is left out, after the check."""
        for item in items:
            self.check()
            if item is not None:
                yield item

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Others do not do what is done within the block: a signal ends it, and is left for all to `check`."""
        self._is_alone = True
        try:
            yield
        except StopTraining as stopped:
            if not stopped.at_safe_point:
                raise
        finally:
            self._is_alone = False
