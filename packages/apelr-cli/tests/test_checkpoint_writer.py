"""Writing at once and in the background: one piece at a time, and no error is lost."""

import threading
from collections.abc import Callable

import pytest

from apelr_cli.checkpoint_writer import CheckpointWriter


class Gate:
    """A piece of writing that ends when it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.began = threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.open.wait(60)


def failing() -> None:
    raise OSError(28, "No space left on device", "file")


def test_at_once() -> None:
    writer, done = CheckpointWriter(in_background=False), list[int]()
    writer.begin(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(OSError, match="No space"):
        writer.begin(failing)
    writer.check()
    writer.finish()
    writer.close()


def test_in_the_background_the_caller_goes_on() -> None:
    writer, gate = CheckpointWriter(in_background=True), Gate()
    writer.begin(gate)
    assert gate.began.wait(60)
    writer.check()
    gate.open.set()
    writer.finish()
    writer.close()


@pytest.mark.parametrize("ask", [CheckpointWriter.check, CheckpointWriter.finish])
def test_an_error_comes_out_once(ask: Callable[[CheckpointWriter], None]) -> None:
    writer = CheckpointWriter(in_background=True)
    writer.begin(failing)
    writer.close()
    with pytest.raises(OSError, match="No space"):
        ask(writer)
    ask(writer)


def test_to_close_is_to_wait() -> None:
    writer, gate, done = CheckpointWriter(in_background=True), Gate(), list[int]()
    writer.begin(lambda: (gate(), done.append(1))[0])
    threading.Timer(0.05, gate.open.set).start()
    writer.close()
    assert done == [1]


def test_the_time_that_the_caller_waits_is_counted() -> None:
    writer = CheckpointWriter(in_background=False)
    assert writer.share_of_time == 0
    with writer.waiting():
        writer.begin(lambda: threading.Event().wait(0.001) and None)
    assert 0 < writer.share_of_time <= 1
