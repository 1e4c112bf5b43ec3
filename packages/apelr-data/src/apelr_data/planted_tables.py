"""The probabilities of a planted source, and the exact filter over its plans. Nothing here draws anything."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apelr_data.errors import DataError


class PlanFilter(NamedTuple):
    """What the true source says of N symbols: natural logs, exact."""

    log_probs: np.ndarray
    "[N] log-probability of each symbol given all before it."
    log_priors: np.ndarray
    "[N, K] log-probability of each plan before the symbol is seen."
    log_beliefs: np.ndarray
    "[N, K] log-probability of each plan once the symbol is seen."

    @property
    def nll(self) -> float:
        """Negative log-likelihood in nats per symbol."""
        return -float(self.log_probs.mean())


@dataclass(frozen=True, eq=False, kw_only=True)
class PlantedTables:
    """K plans over V symbols: a Markov chain over chunks, and a table of symbol pairs for each plan."""

    initial: np.ndarray
    "[K] probability of each plan in the first chunk: the chain's stationary distribution."
    transition: np.ndarray
    "[K, K] row: a chunk's plan; column: probability of the next chunk's."
    emission: np.ndarray
    "[K, V + 1, V] probability of each symbol (last axis) behind each symbol, under each plan; row V is behind BOS."
    chunk_size: int
    "L, symbols in a chunk."
    chunk_offset: int = 0
    "Symbol t lies in chunk (t + chunk_offset) // L."

    def chunks(self, count: int) -> np.ndarray:
        """The chunk of each of a document's first `count` symbols, int64 [count]."""
        return (np.arange(count, dtype=np.int64) + self.chunk_offset) // self.chunk_size

    def log_emissions(self, symbols: np.ndarray) -> np.ndarray:
        """symbols [N] from a document's first on -> [N, K] natural log of each one's probability under each plan.

        Raises DataError for what is no symbol of the source.
        """
        symbols = np.asarray(symbols)
        size = self.emission.shape[2]
        if symbols.ndim != 1 or symbols.dtype.kind not in "iu":
            raise DataError(f"symbols must be one row of integers, got {symbols.dtype} of shape {symbols.shape}")
        if len(symbols) and not 0 <= int(symbols.min()) <= int(symbols.max()) < size:
            raise DataError(f"symbols must be in 0 .. {size - 1}, got {symbols.min()} .. {symbols.max()}")
        symbols = symbols.astype(np.int64)
        before = np.concatenate([[size], symbols[:-1]])[: len(symbols)]
        with np.errstate(divide="ignore"):  # what cannot be has the log -inf
            log_probs: np.ndarray = np.log(self.emission[:, before, symbols].T)
        return log_probs

    def filter(self, symbols: np.ndarray, *, row_length: int | None = None) -> PlanFilter:
        """symbols [N] from a document's first on -> what the source says of each.

        The belief is carried from chunk to chunk through all symbols, or starts again from `initial` at every
        `row_length`-th one (the symbol before it is still known). Raises DataError for a symbol that cannot be.
        """
        log_emissions = self.log_emissions(symbols)
        count = len(log_emissions)
        if count < 1 or (row_length is not None and row_length < 1):
            raise DataError(f"symbols and row_length must be at least 1, got {count} and {row_length}")
        chunks, at = self.chunks(count), np.arange(count)
        restarts = at % row_length == 0 if row_length else at == 0
        starts = np.flatnonzero(restarts | (np.diff(chunks, prepend=chunks[0]) > 0))
        log_probs, log_priors, log_beliefs = np.empty(count), *np.empty((2, *log_emissions.shape))
        with np.errstate(divide="ignore"):
            log_initial = np.log(self.initial)
            for start, end in zip(starts, [*starts[1:], count], strict=True):
                belief = log_initial if restarts[start] else np.log(np.exp(log_beliefs[start - 1]) @ self.transition)
                joint = belief + np.cumsum(log_emissions[start:end], axis=0)
                totals = np.logaddexp.reduce(joint, axis=1)
                if totals[-1] == -np.inf:
                    place = start + int(np.argmin(totals))
                    raise DataError(f"symbol {symbols[place]} at position {place} is impossible under every plan")
                log_probs[start:end] = np.diff(totals, prepend=0.0)
                log_beliefs[start:end] = joint - totals[:, None]
                log_priors[start] = belief
                log_priors[start + 1 : end] = log_beliefs[start : end - 1]
        return PlanFilter(log_probs, log_priors, log_beliefs)


def stationary_distribution(transition: np.ndarray) -> np.ndarray:
    """transition [K, K], every plan reached from every other -> [K], the p with p = p · transition.

    Grassmann, Taksar and Heyman's elimination: no difference is taken, so it is exact for very sticky chains too.
    """
    rates = np.array(transition, dtype=np.float64)
    size = len(rates)
    for last in range(size - 1, 0, -1):
        rates[:last, last] /= rates[last, :last].sum()
        rates[:last, :last] += np.outer(rates[:last, last], rates[last, :last])
    weights: np.ndarray = np.ones(size)
    for plan in range(1, size):
        weights[plan] = weights[:plan] @ rates[:plan, plan]
    weights /= weights.sum()
    return weights
