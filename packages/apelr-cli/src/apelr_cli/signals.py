"""SIGINT and SIGTERM: asked to stop, finish the step, save, and leave with 128 + the signal's number."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

__all__ = ["StopRequest", "StopTraining"]

Item = TypeVar("Item")

NAMES = ("SIGINT", "SIGTERM")
"""Signals that stop a run; a platform may lack one."""


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
    once. While it is true the first signal is remembered, for `check`; the second one raises at once.

    Of several processes that train together all stop where one has got a signal: each calls `check`, or takes items
    from `watch`, as often as the others, and `agree` gives all of them the largest of their numbers.
    """

    def __init__(self, agree: Callable[[int], int] = int) -> None:
        self._agree = agree
        self.deferred = False
        self._received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None or not self.deferred:
            raise StopTraining(number, at_safe_point=False)
        self._received = number

    def check(self) -> None:
        """Raise StopTraining if a signal has come, to any of the processes."""
        if number := self._agree(self._received or 0):
            raise StopTraining(number, at_safe_point=True)

    def watch(self, items: Iterable[Item | None]) -> Iterator[Item]:
        """The items, checking for a signal before each; a None is left out, after the check."""
        for item in items:
            self.check()
            if item is not None:
                yield item

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Others do not do what is done within the block: a signal ends it, and is left for all to `check`."""
        agree, self._agree = self._agree, int
        try:
            yield
        except StopTraining as stopped:
            if not stopped.at_safe_point:
                raise
        finally:
            self._agree = agree
