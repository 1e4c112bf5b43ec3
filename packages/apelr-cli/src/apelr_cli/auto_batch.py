"""`train.batch_size: auto`: as many rows as fit into memory, by steps that are made and measured."""

import gc
import time
from dataclasses import replace
from typing import NamedTuple

import torch

from apelr_cli.live_memory import LiveMemory, available_memory
from apelr_cli.run_config import RunConfig
from apelr_cli.training_data import to_token_batch
from apelr_data import Rows
from apelr_model import TokenBatch, Trainer, build_model

__all__ = ["BatchSizeError", "MeasuredBatchSize", "measure_batch_size"]

SHARE = 0.8
"""Of the available memory; the rest is for evaluations, kernels' own needs, and what else the process does."""
LARGEST_TRIED = 256
"""Rows of the largest micro-batch that is measured on a CPU; what more rows need is taken to be linear."""
LONGEST_STEP = 2.0
"""Seconds after which no larger micro-batch is measured on a CPU."""


class BatchSizeError(ValueError):
    """No batch size can be measured, or none fits."""


class MeasuredBatchSize(NamedTuple):
    """A batch size and what it was chosen by; sizes in bytes."""

    rows: int
    """Of a whole optimizer step."""
    micro_batches: int
    needed: int
    """By parameters, optimizer, gradients and activations of one micro-batch."""
    available: int

    def __str__(self) -> str:
        return (
            f"train.batch_size auto: {self.rows:,} rows a step in {self.micro_batches} micro-batch(es); a step needs "
            f"about {self.needed / 1e6:,.0f} MB of {self.available / 1e6:,.0f} MB available"
        )


def measure_batch_size(config: RunConfig, vocab_size: int, rows: Rows, device: torch.device) -> MeasuredBatchSize:
    """The largest power of two, times `train.grad_accum_steps`, whose step fits into `SHARE` of what is available.

    Makes steps of a few rows with a model of its own, which is gone afterwards, and never takes more rows than the
    text has; on CUDA a step of the size found proves it. Draws no random number of the run's. Raises BatchSizeError.
    """
    available = available_memory(device)
    if available is None:
        raise BatchSizeError(f"train.batch_size auto cannot see how much memory there is on {device}: give a number")
    parts = config.train.grad_accum_steps
    if len(rows) < parts:
        raise BatchSizeError(f"train.batch_size auto: {len(rows)} rows of text are too few for {parts} micro-batches")
    limit = int(SHARE * available)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            needs = _Needs(config, vocab_size, rows, device, available)
        except torch.OutOfMemoryError:
            raise _too_large(config, limit, "more than there is") from None
        most = _power_of_two(min(needs.predicted(limit), len(rows) // parts))
        while most and device.type == "cuda" and not needs.proven(most):
            most //= 2
    needed = needs.of(max(1, most))
    del needs
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if most == 0:
        raise _too_large(config, limit, f"about {needed / 1e6:,.0f} MB")
    return MeasuredBatchSize(most * parts, parts, needed, available)


def _too_large(config: RunConfig, limit: int, needed: str) -> BatchSizeError:
    return BatchSizeError(
        f"train.batch_size auto: even one row of {config.train.seq_len} targets needs {needed}, "
        f"and {limit / 1e6:,.0f} MB may be used: take a smaller model or train.seq_len"
    )


class _Needs:
    """What steps of one size after another need."""

    def __init__(self, config: RunConfig, vocab_size: int, rows: Rows, device: torch.device, available: int) -> None:
        """Measures one size after another, each twice the one before, until memory is full or it takes long.

        On a CPU none is measured that might not fit, by what `of` says: the system would end the process. Raises
        torch.OutOfMemoryError.
        """
        parts = min(2, config.train.grad_accum_steps)  # from the second on, gradients are there beside activations
        train = replace(config.train, grad_accum_steps=parts, compile=False)
        model = build_model(config.model, vocab_size).to(device)
        self._trainer = Trainer(model, train, train.weights)
        self._parts, self._rows, self._device = parts, rows, device
        self._step(1)  # makes the optimizer's moments
        self._known = [*model.parameters(), *model.buffers()]
        self._known += [
            value
            for state in self._trainer.optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        self._fixed = sum(tensor.untyped_storage().nbytes() for tensor in self._known)
        self._found = [(1, self._fixed + self._peak(1))]
        size, is_cuda = 2, device.type == "cuda"
        while size * parts <= len(rows) and (is_cuda or (size <= LARGEST_TRIED and self.of(size) <= available)):
            began = time.monotonic()
            try:
                self._found.append((size, self._fixed + self._peak(size)))
            except torch.OutOfMemoryError:
                break
            if self._found[-1][1] > available or (not is_cuda and time.monotonic() - began > LONGEST_STEP):
                break
            size *= 2

    def of(self, rows: int) -> int:
        """Bytes for a micro-batch of `rows`; beyond the largest measured, a row more takes what one takes there.

        It takes no more than that, as work over the vocabulary comes in slices of bounded size.
        """
        for size, needed in self._found:
            if rows <= size:
                return needed
        size, needed = self._found[-1]
        return needed + (rows - size) * self._a_row()

    def predicted(self, limit: int) -> int:
        """The most rows that fit into `limit` bytes; 0 where not even one does."""
        fitting = [size for size, needed in self._found if needed <= limit]
        size, needed = self._found[-1]
        if not fitting or fitting[-1] < size:
            return fitting[-1] if fitting else 0
        return size + (limit - needed) // max(1, self._a_row())

    def proven(self, rows: int) -> bool:
        """Whether a step of that size can be made."""
        try:
            self._step(rows)
        except torch.OutOfMemoryError:
            return False
        return True

    def _a_row(self) -> int:
        size, needed = self._found[-1]
        return max(1, (needed - self._fixed) // size)

    def _peak(self, size: int) -> int:
        """Bytes beside the fixed ones."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
            self._step(size)
            return int(torch.cuda.max_memory_allocated(self._device)) - before
        with LiveMemory(self._known) as live:
            self._step(size)
        return int(live.peak)

    def _step(self, size: int) -> None:
        count = size * self._parts
        numbers = [number % len(self._rows) for number in range(count)]
        batch: TokenBatch = to_token_batch(self._rows.batch(numbers)).to(self._device)
        self._trainer.train_step(batch)
        self._trainer.optimizer.zero_grad(set_to_none=True)


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`; 0 where that is 0."""
    return 1 << (most.bit_length() - 1) if most > 0 else 0
