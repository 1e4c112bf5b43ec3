"""How batches reach the loop: made when they are asked for, or fetched ahead by worker processes; and the wait."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from apelr_cli.train_config import TrainLoop
from apelr_data import DataError

__all__ = ["RowFeed", "WaitingTime", "check_row_feed", "worker_errors"]

Item = TypeVar("Item")

WORKER_DIED = "DataLoader worker"
"""How torch's error about a worker that has gone begins; it may be raised anywhere in the main process."""


def check_row_feed(train: TrainLoop, device: torch.device) -> None:
    """Raise ValueError where batches cannot be handed over as asked: only CUDA copies from pinned memory."""
    if train.pin_memory and device.type != "cuda":
        raise ValueError(f"train.pin_memory true needs a CUDA device, got {device.type}: nothing is copied to one")


class RowFeed(Generic[Item]):
    """`fetch(index)` for every index of an iterable, in its order, as `train` says that rows are fetched.

    With workers each index is fetched in one of `train.num_workers` processes, `train.prefetch_factor` ahead for each;
    what is fetched, and its order, are the same with any number of them. No random number of the training is drawn.
    """

    def __init__(self, fetch: Callable[[Any], Item], train: TrainLoop) -> None:
        """`fetch` must be a function of its index alone, and one that other processes can be sent."""
        self._indices = _Indices()
        loader: DataLoader[Item] = DataLoader(
            _Fetched(fetch),
            batch_size=None,
            sampler=self._indices,
            num_workers=train.num_workers,
            prefetch_factor=train.prefetch_factor,
            persistent_workers=train.persistent_workers,
            pin_memory=train.pin_memory,
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
            multiprocessing_context=_Context() if train.num_workers else None,
            generator=torch.Generator(),  # the loader's own: without one it would draw from the training's
        )
        self._held: list[Any] = [loader]  # and the iterator in use: nobody else may keep them, as workers end with them
        atexit.register(_end_workers, weakref.ref(self))

    def over(self, indices: Iterable[Any]) -> Generator[Item, None, None]:
        """The items, one after another; only one such iterator may be in use. Raises what `fetch` raised."""
        self._indices.indices = indices
        self._held.append(iter(self._held[0]))
        try:
            while not isinstance(item := next(self._held[1], _Failure(None)), _Failure):
                yield item
            if item.error:
                raise item.error
        finally:
            del self._held[1:]

    def close(self) -> None:
        """End the workers: the feed is not used again."""
        self._held.clear()


def _end_workers(feed: "weakref.ref[RowFeed[Any]]") -> None:
    """Called as Python ends, which would wait for ever for workers that nobody has ended."""
    if (still_there := feed()) is not None:
        still_there.close()


class WaitingTime:
    """Which share of the time of training steps goes by before their rows are there."""

    def __init__(self) -> None:
        self._waited = self._lasted = 0.0
        self._waited_before = self._lasted_before = 0.0
        self._began = time.perf_counter()

    def step_begins(self) -> None:
        """The loop asks for rows."""
        self._began = time.perf_counter()

    def rows_are_there(self) -> None:
        """The loop has them."""
        self._waited += time.perf_counter() - self._began

    def step_ends(self) -> None:
        """The parameters are updated."""
        self._lasted += time.perf_counter() - self._began

    @property
    def share(self) -> float:
        """Of all steps so far."""
        return self._waited / self._lasted if self._lasted else 0.0

    def share_since_last(self) -> float:
        """Of the steps since this was last asked."""
        waited, lasted = self._waited - self._waited_before, self._lasted - self._lasted_before
        self._waited_before, self._lasted_before = self._waited, self._lasted
        return waited / lasted if lasted else 0.0


@contextmanager
def worker_errors() -> Iterator[None]:
    """Within the block, a worker process that dies is a DataError of one line."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(WORKER_DIED):
            raise
        raise DataError(
            f"a process that fetches rows has died ({' '.join(str(error).split())}): "
            "set train.num_workers lower, or 0 to fetch them in the run's own process"
        ) from error


class _Worker(multiprocessing.get_context().Process):  # type: ignore[misc]
    """A worker does not listen to SIGTERM, with which the loader ends one that has not heard that it is over."""

    def terminate(self) -> None:
        """End it at once: it holds nothing that could be lost."""
        self.kill()


class _Context(type(multiprocessing.get_context())):  # type: ignore[misc]
    Process = _Worker


class _Failure:
    """An error in place of an item: the loader would make many lines of it on its way from a worker. None: the end."""

    def __init__(self, error: ValueError | OSError | None) -> None:
        self.error = error


class _Fetched(Dataset[Any]):
    def __init__(self, fetch: Callable[[Any], Any]) -> None:
        self._fetch = fetch

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._fetch(index)
        except (ValueError, OSError) as error:
            return _Failure(error)


class _Indices(Sampler[Any]):
    """What the loader is to fetch; set before each pass."""

    indices: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indices)


def _as_it_is(item: Item) -> Item:
    return item


def _begin_worker(worker: int) -> None:
    _leave_signals_to_the_run()
    threading.Thread(target=_end_with_the_run, name="apelr-worker", daemon=True).start()


def _end_with_the_run() -> None:
    """In a thread of a worker: end it when the run's process has ended, however that ended.

    The loader's own watch asks who its parent is when the worker begins, which is too late where the run has been
    killed by then: such a worker would wait for ever.
    """
    if (run := multiprocessing.parent_process()) is not None:
        run.join()
        os._exit(1)


def _leave_signals_to_the_run() -> None:
    """A terminal or a scheduler signals all processes of a run: the main one saves, and then ends its workers.

    A second SIGTERM ends a worker as it ends the run; Python's own end sends one to workers that were forgotten.
    """
    signal.set_wakeup_fd(-1)  # the run's own, which would take a worker's signal for a second one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
