"""Signals: remembered while a step runs, raised at once before, never swallowed."""

import os
import signal

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
    with StopRequest(lambda number: max(number, signal.SIGTERM)) as stop, pytest.raises(StopTraining) as stopped:
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
        assert asked == [signal.SIGTERM]
