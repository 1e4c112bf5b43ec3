"""Batches fetched by other processes are those of the run's own; errors and signals of theirs are the run's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from apelr_cli.row_feed import RowFeed, WaitingTime, check_row_feed, worker_errors
from apelr_cli.train_config import V2TrainConfig
from apelr_data import DataError
from apelr_model import TokenBatch

Feeds = Callable[..., RowFeed[Any]]
WORKERS = [
    {},
    {"num_workers": 1},
    {"num_workers": 3, "prefetch_factor": 1},
    {"num_workers": 2, "persistent_workers": True},
]


def square(index: int, slow: int = -1) -> tuple[int, TokenBatch]:
    """A number and tensors; one of them takes long, so that the next ones are there before it."""
    if index == slow:
        time.sleep(0.3)
    tensor = torch.full((2, 3), index)
    return index * index, TokenBatch(tensor, tensor + 1, tensor[:, 0])


def failing(index: int, error: Exception) -> int:
    if index == 2:
        raise error
    return index


def own_process(index: int) -> int:
    return os.getpid()


def end_itself(index: int) -> int:
    if index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def signal_itself(index: int) -> int:
    for number in [signal.SIGINT, signal.SIGINT, signal.SIGTERM] if index == 1 else []:
        os.kill(os.getpid(), number)
    return index


@pytest.fixture
def feed() -> Iterator[Callable[..., RowFeed[Any]]]:
    """Makes feeds that are closed when the test ends."""
    made: list[RowFeed[Any]] = []

    def make(fetch: Callable[..., Any], **train: object) -> RowFeed[Any]:
        made.append(RowFeed(fetch, V2TrainConfig(**train)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("train", WORKERS)
def test_the_items_and_their_order_are_the_same(feed: Feeds, train: dict[str, object]) -> None:
    fed = feed(partial(square, slow=3), **train)
    for indices in (range(2, 9), [5, 1, 5], []):
        found = list(fed.over(indices))
        assert [number for number, _ in found] == [index * index for index in indices]
        for index, (_, batch) in zip(indices, found, strict=True):
            wanted = square(index)[1]
            assert all(torch.equal(a, b) for a, b in zip(batch[:3], wanted[:3], strict=True))
            assert batch.positions is None


def test_a_pass_that_was_broken_off_does_not_leak_into_the_next(feed: Feeds) -> None:
    fed = feed(square, num_workers=2, persistent_workers=True)
    broken = fed.over(range(20))
    assert next(broken)[0] == 0
    broken.close()
    assert [number for number, _ in fed.over(range(30, 33))] == [900, 961, 1024]


def test_indices_are_asked_for_only_a_little_ahead(feed: Feeds) -> None:
    asked = []
    indices = (asked.append(index) or index for index in range(1000))  # type: ignore[func-returns-value]
    fed = feed(square, num_workers=2, prefetch_factor=3).over(indices)
    next(fed)
    assert len(asked) <= 2 * 3 + 1


@pytest.mark.parametrize("train", WORKERS)
def test_no_random_number_of_the_run_is_drawn(feed: Feeds, train: dict[str, object]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(feed(square, **train).over(range(3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_are_other_processes_and_persistent_ones_stay(feed: Feeds) -> None:
    assert set(feed(own_process).over(range(3))) == {os.getpid()}
    for stay in (False, True):
        fed = feed(own_process, num_workers=2, persistent_workers=stay)
        first, second = (set(fed.over(range(4))) for _ in range(2))
        assert os.getpid() not in first | second
        assert len(first) == 2
        assert (first == second) is stay


@pytest.mark.parametrize("train", WORKERS)
@pytest.mark.parametrize("error", [DataError("token cache: x.bin: it has 3 bytes, not 4"), OSError(28, "disk", "name")])
def test_errors_arrive_as_they_were_raised(feed: Feeds, train: dict[str, object], error: Exception) -> None:
    fed = feed(partial(failing, error=error), **train).over(range(5))
    assert [next(fed), next(fed)] == [0, 1]
    with pytest.raises(type(error)) as found:
        next(fed)
    assert str(found.value) == str(error)


def test_a_worker_that_dies_is_one_line(feed: Feeds) -> None:
    message = (
        r"^a process that fetches rows has died \(DataLoader worker .*\): set train\.num_workers lower, or 0 to fetch"
    )
    with pytest.raises(DataError, match=message) as error, worker_errors():
        list(feed(end_itself, num_workers=1).over(range(4)))
    assert "\n" not in str(error.value)


def test_other_errors_of_the_run_pass() -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), worker_errors():
        raise RuntimeError("something else")


def test_workers_leave_signals_to_the_run(feed: Feeds) -> None:
    assert list(feed(signal_itself, num_workers=1).over(range(3))) == [0, 1, 2]


def test_pinned_memory_is_for_cuda() -> None:
    pinned = V2TrainConfig(pin_memory=True)
    check_row_feed(pinned, torch.device("cuda"))
    check_row_feed(V2TrainConfig(), torch.device("cpu"))
    with pytest.raises(
        ValueError, match=r"^train\.pin_memory true needs a CUDA device, got cpu: nothing is copied to one$"
    ):
        check_row_feed(pinned, torch.device("cpu"))


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ({"num_workers": -1}, "num_workers must be >= 0, got -1"),
        (
            {"prefetch_factor": 2},
            "prefetch_factor must be null or >= 1, and null when num_workers is 0: without workers nothing is fetched "
            "ahead, got 2",
        ),
        ({"num_workers": 1, "prefetch_factor": 0}, "got 0"),
        ({"persistent_workers": True}, "persistent_workers must be false when num_workers is 0, got True"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(train: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError) as error:
        V2TrainConfig(**train)  # type: ignore[arg-type]
    assert str(error.value).endswith(line)


def test_the_share_of_the_time_that_is_spent_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    waiting = WaitingTime()
    assert (waiting.share, waiting.share_since_last()) == (0.0, 0.0)

    def step(wait: float, work: float, between: float) -> None:
        now[0] += between
        waiting.step_begins()
        now[0] += wait
        waiting.rows_are_there()
        now[0] += work
        waiting.step_ends()

    step(1.0, 3.0, between=50.0)
    step(0.0, 4.0, between=9.0)
    assert waiting.share == waiting.share_since_last() == 1 / 8
    step(2.0, 0.0, between=0.0)
    assert waiting.share == 3 / 10
    assert waiting.share_since_last() == 1.0


def test_a_pass_that_is_left_unfinished_does_not_keep_python_from_ending() -> None:
    script = """
from apelr_cli.row_feed import RowFeed
from apelr_cli.train_config import V2TrainConfig

passes = [RowFeed(abs, V2TrainConfig(num_workers=1)).over(range(100)) for _ in range(2)]
print([next(each) for each in passes])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=900)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0]\n", "")


def test_workers_end_with_a_run_that_is_killed_even_if_the_loader_does_not_notice() -> None:
    """As it does not where the run is killed while a worker begins. What they hold is open until all have ended."""
    script = """
import os, signal
from torch.utils.data._utils.worker import ManagerWatchdog
from apelr_cli.row_feed import RowFeed
from apelr_cli.train_config import V2TrainConfig

ManagerWatchdog.is_alive = lambda self: True
feeds = [RowFeed(abs, V2TrainConfig(num_workers=2)).over(range(100)) for _ in range(2)]
print([next(each) for each in feeds], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "[0, 0]\n", "")
