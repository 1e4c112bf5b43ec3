"""Signals: remembered while a step runs, raised at once before, never swallowed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from apelr_cli.signals import StopRequest, StopTraining


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_before_training_a_signal_raises_at_once(number: int, code: int) -> None:
    with StopRequest(), pytest.raises(StopTraining) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == code
    assert not stopped.value.at_safe_point


def test_while_training_it_waits_for_a_safe_point() -> None:
    with StopRequest() as stop:
        stop.deferred = True
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopTraining) as stopped:
            stop.check()
    assert stopped.value.at_safe_point


def test_a_second_signal_does_not_wait() -> None:
    with StopRequest() as stop:
        stop.deferred = True
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopTraining) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
    assert stopped.value.exit_code == 130
    assert not stopped.value.at_safe_point


def test_watched_items_stop_before_the_next() -> None:
    seen = []
    with StopRequest() as stop:
        stop.deferred = True
        with pytest.raises(StopTraining):
            for item in stop.watch(range(5)):
                seen.append(item)
                if item == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [0, 1, 2]


def test_check_without_a_signal_does_nothing() -> None:
    with StopRequest() as stop:
        stop.check()
        assert list(stop.watch([1, 2])) == [1, 2]


def test_old_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_platform_without_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGTERM")
    with StopRequest(), pytest.raises(StopTraining):
        os.kill(os.getpid(), signal.SIGINT)


def test_no_handler_of_ordinary_errors_swallows_it() -> None:
    assert issubclass(StopTraining, SystemExit)
    assert not issubclass(StopTraining, Exception)


def test_a_signal_to_another_process_stops_this_one() -> None:
    with StopRequest(lambda number: max(number, 2 * signal.SIGTERM)) as stop, pytest.raises(StopTraining) as stopped:
        stop.check()
    assert stopped.value.exit_code == 143
    assert stopped.value.at_safe_point


def test_processes_ask_each_other_equally_often_also_where_one_has_nothing_to_do() -> None:
    asked: list[int] = []
    with StopRequest(lambda number: asked.append(number) or number) as stop:  # type: ignore[func-returns-value]
        assert list(stop.watch([1, None, None, 2])) == [1, 2]
    assert asked == [0] * 4


def test_what_one_does_alone_ends_at_a_signal_and_the_others_hear_of_it_after() -> None:
    asked: list[int] = []
    done = []
    with StopRequest(lambda number: asked.append(number) or number) as stop:  # type: ignore[func-returns-value]
        stop.deferred = True
        with stop.alone():
            for item in stop.watch(range(3)):
                done.append(item)
                os.kill(os.getpid(), signal.SIGTERM)
        assert (done, asked) == ([0], [])
        with pytest.raises(StopTraining):
            stop.check()
        assert asked == [2 * signal.SIGTERM]


def test_asked_to_save_it_saves_at_the_next_check_and_goes_on() -> None:
    saved = []
    with StopRequest() as stop:
        stop.on_save = lambda: saved.append(1)
        os.kill(os.getpid(), signal.SIGUSR1)
        stop.check()
        assert not saved, "nothing can be saved while data are prepared"
        stop.deferred = True
        for count in (1, 1, 2):
            if count == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
                assert len(saved) == 1
            stop.check()
            assert len(saved) == count


def test_asked_to_save_and_to_stop_it_does_both() -> None:
    saved = []
    with StopRequest() as stop:
        stop.on_save, stop.deferred = lambda: saved.append(1), True
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopTraining) as stopped:
            stop.check()
    assert saved
    assert stopped.value.at_safe_point


def test_everything_is_as_it_was_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(StopTraining), StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not [thread for thread in threading.enumerate() if thread.name == "apelr-signals"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_the_block_ends_though_a_process_that_was_forked_within_it_lives_on() -> None:
    with StopRequest():
        child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
        child.start()
    assert child.is_alive()
    child.kill()
    child.join()


IN_NATIVE_CODE = """
import hashlib, sys
from apelr_cli import signals
signals.GRACE_SECONDS = 0.2
with signals.StopRequest() as stop:
    stop.deferred = sys.argv[1] == "training"
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[2]))
    print("ended", flush=True)
    stop.check()
"""
FOR_EVER = 10**9


@pytest.fixture
def in_native_code():  # type: ignore[no-untyped-def]
    """A process that is in native code, which no handler interrupts; it is given signals one after another."""

    def signalled(phase: str, rounds: int, *numbers: int) -> tuple[int, bytes]:
        command = [sys.executable, "-c", IN_NATIVE_CODE, phase, str(rounds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            for number in numbers:
                time.sleep(0.1)
                process.send_signal(number)
            try:
                return process.wait(900), process.stdout.read()
            finally:
                process.kill()

    return signalled


def test_native_code_that_does_not_end_is_ended_by_force(in_native_code) -> None:  # type: ignore[no-untyped-def]
    assert in_native_code("preparation", FOR_EVER, signal.SIGTERM) == (143, b"")
    assert in_native_code("preparation", FOR_EVER, signal.SIGINT) == (130, b"")
    assert in_native_code("training", FOR_EVER, signal.SIGINT, signal.SIGTERM) == (143, b"")


def test_a_step_is_waited_for_however_long_it_takes(in_native_code) -> None:  # type: ignore[no-untyped-def]
    assert in_native_code("training", 3_000_000, signal.SIGTERM) == (143, b"ended\n")
    assert in_native_code("training", 3_000_000, signal.SIGUSR1) == (0, b"ended\n")
