"""The processes that train one model together: which of them this is, and the few things that they tell each other."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from apelr_model.errors import LostProcessError, NonFiniteError

__all__ = ["World"]

Failing = Callable[[bool], None]


@dataclass(frozen=True)
class World:
    """One of `size` processes that talk through a process group of torch; the only one unless told otherwise.

    All of them call the same methods in the same order, and all get the same answers. Each method raises
    LostProcessError where another process has ended.
    """

    rank: int = 0
    """Which of them this is, from 0."""
    size: int = 1
    group: Any = None
    """Of torch's process groups the one that they talk through; None for the default one."""

    def apart(self) -> "World":
        """The same processes, by a way of their own: threads of theirs may talk there while they talk here."""
        return self if self.size == 1 else World(self.rank, self.size, dist.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks for all."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Which of a batch's rows are this process's: a run of them, as long as each other's.

        Raises ValueError where they cannot be divided evenly.
        """
        if rows % self.size:
            raise ValueError(f"{rows} rows cannot be divided evenly between {self.size} processes")
        return slice(rows // self.size * self.rank, rows // self.size * (self.rank + 1))

    def total(self, values: Tensor) -> Tensor:
        """values [...] -> [...], the sum of all processes', of the same type."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return int(self._reduced(torch.tensor(number), dist.ReduceOp.MAX))

    def gathered(self, values: Tensor) -> list[Tensor]:
        """values [...] -> each process's [...], by rank; all have the same shape and type."""
        if self.size == 1:
            return [values]
        found = [torch.empty_like(values) for _ in range(self.size)]
        with self.needing_all():
            dist.all_gather(found, values.contiguous(), group=self.group)
        return found

    def texts(self, own: str) -> list[str]:
        """Each process's text, by rank; of any length, without a character of code 0."""
        if self.size == 1:
            return [own]
        if not (longest := self.largest(len(own.encode()))):
            return [""] * self.size
        padded = torch.frombuffer(bytearray(own.encode().ljust(longest, b"\0")), dtype=torch.uint8)
        return [bytes(text.tolist()).rstrip(b"\0").decode() for text in self.gathered(padded)]

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.largest(0)

    def _reduced(self, values: Tensor, how: Any) -> Tensor:
        if self.size == 1:
            return values
        reduced = values.clone()
        with self.needing_all():
            dist.all_reduce(reduced, how, group=self.group)
        return reduced

    def problem_of_any(self, problem: str = "") -> str:
        """The first process's that has one, with its rank; empty where none has."""
        texts = self.texts(problem)
        rank = next((rank for rank, text in enumerate(texts) if text), None)
        return problem if rank is None or self.size == 1 else f"process {rank}: {texts[rank]}"

    @contextmanager
    def failing_together(self, *kinds: type[ValueError]) -> Iterator[Failing]:
        """Within the block an error of these kinds ends it in all processes: in the others as a NonFiniteError.

        Each calls what the block is given, equally often: where it must not fail alone from there on, and with True at
        the last place where it may.
        """
        asked = False

        def agree(is_last: bool) -> None:
            nonlocal asked
            asked = True
            if problem := self.problem_of_any():
                raise NonFiniteError(problem)
            asked = is_last

        try:
            yield agree
        except kinds as error:
            if not asked:
                self.problem_of_any(str(error) or type(error).__name__)
            raise

    @contextmanager
    def needing_all(self) -> Iterator[None]:
        """Within the block, that another process no longer answers is a LostProcessError of one line."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
                raise
            raise LostProcessError(
                f"process {self.rank}: another process of the run has ended or no longer answers; its own message, "
                "or the launcher's, says why"
            ) from error

    def summing_gradients(self, module: nn.Module) -> nn.Module:
        """`module` with gradients that are summed over all processes, while they are made, by each backward pass.

        Its parameters are those of the first process from here on. See `keeping_gradients`.
        """
        if self.size == 1:
            return module
        buffers = [name for name, _ in module.named_buffers()]  # the same everywhere: nothing to send at each pass
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, buffers)
        parallel = DistributedDataParallel(module, find_unused_parameters=True, gradient_as_bucket_view=True)
        parallel.register_comm_hook(None, _sum)
        return parallel

    def keeping_gradients(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within the block, passes of what `summing_gradients` gave add up gradients here alone; the next sums all."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def begin_own_random_numbers(self) -> None:
        """Give each process but the first a stream of its own; all must stand at the same place of the same one."""
        if not self.is_first:
            torch.manual_seed(int(torch.randint(2**62, ())) + self.rank)


def _sum(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Each process's loss is its part of the whole batch's mean, so gradients are added and not averaged."""
    reduced = dist.all_reduce(bucket.buffer(), async_op=True)
    assert reduced is not None, "asked for, the work is given back"
    summed: torch.futures.Future[Tensor] = reduced.get_future().then(lambda future: future.value()[0])
    return summed
