"""Forecasts of the plan in chunks that have not been reached, for display: they never change a distribution.

A forecast is the belief times a power of P. The powers do not depend on the text, so they are made once; what is
left for each token is one product of a [K] vector with a [K, n K] matrix.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import to_filter_dtype

__all__ = ["ForecastQueue", "PlanForecast", "forecast_by_powers", "transition_powers"]


class PlanForecast(NamedTuple):
    """The plan as foreseen just before one token, tagged with the token it belongs to."""

    row: int
    """Which prompt the token continues."""
    position: int
    """The token's number among its row's targets, from 0: it is entry position + 1 of prompt and continuation."""
    chunk: int
    """The chunk the token lies in."""
    probabilities: tuple[tuple[float, ...], ...]
    """[n][K] probability of each plan state 1 ... n chunks on, given the text before the token."""


def transition_powers(log_transition: Tensor, steps: int) -> Tensor:
    """log_transition [K, K], steps n >= 1 -> probabilities [n, K, K]: P, P^2, ... P^n in float64."""
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    transition = to_filter_dtype(log_transition).exp()
    powers = [transition]
    while len(powers) < steps:
        powers.append(powers[-1] @ transition)
    return torch.stack(powers)


def forecast_by_powers(log_belief: Tensor, powers: Tensor) -> Tensor:
    """log_belief [B, K], powers [n, K, K] -> probabilities [B, n, K]: b P^s for s = 1 ... n, as `forecast`."""
    steps, num_states, _ = powers.shape
    wide = powers.transpose(0, 1).reshape(num_states, steps * num_states)
    found: Tensor = (log_belief.exp() @ wide).unflatten(-1, (steps, num_states))
    return found


class _Begun(NamedTuple):
    """A forecast under way for some rows."""

    tags: list[tuple[int, int, int]]
    """Row, position and chunk of each."""
    log_belief: Tensor
    """[B, K]."""
    result: Tensor | None
    """[B, n, K] in pinned memory once `done` has happened; None where nothing is under way yet."""
    done: torch.cuda.Event | None


class ForecastQueue:
    """Forecasts that are made beside the next token: `begin` costs the token nothing, `take` hands them over later.

    On CUDA they run on a stream of their own, copy included. Elsewhere they are made when they are taken, which the
    caller does after the next token has been handed on: a product this small is cheaper than waking a thread.
    """

    def __init__(self, powers: Tensor) -> None:
        """`powers` [n, K, K] as `transition_powers` gives them."""
        self._powers = powers
        self._stream = torch.cuda.Stream(powers.device) if powers.device.type == "cuda" else None
        self._begun: list[_Begun] = []

    def begin(self, log_belief: Tensor, rows: Sequence[int], positions: Sequence[int], chunks: Sequence[int]) -> None:
        """log_belief [B, K] of the given rows at the given positions, which lie in the given chunks."""
        tags = list(zip(rows, positions, chunks, strict=True))
        if self._stream is None:
            self._begun.append(_Begun(tags, log_belief, None, None))
            return
        self._stream.wait_stream(torch.cuda.current_stream(log_belief.device))
        with torch.cuda.stream(self._stream):
            found = forecast_by_powers(log_belief, self._powers)
            result = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            result.copy_(found, non_blocking=True)
            done = torch.cuda.Event()
            done.record(self._stream)
        log_belief.record_stream(self._stream)
        self._begun.append(_Begun(tags, log_belief, result, done))

    def take(self) -> Iterator[PlanForecast]:
        """Everything begun and not yet taken, oldest first; waits for what is still under way."""
        begun, self._begun = self._begun, []
        for tags, log_belief, result, done in begun:
            if done is not None:
                done.synchronize()
            found = forecast_by_powers(log_belief, self._powers) if result is None else result
            for tag, steps in zip(tags, found.tolist(), strict=True):
                yield PlanForecast(*tag, tuple(tuple(step) for step in steps))
