"""The planted source: tables and texts that are drawn from seeds, plan by plan and symbol by symbol.

The plan of each chunk follows a Markov chain that begins in its stationary distribution. A symbol depends on the
one before it and on the plan: p(y | x, z) = overlap · shared[x, y] + (1 - overlap) · own[z][x, y].
"""

from typing import NamedTuple, get_args

import numpy as np

from apelr_data.config import Split
from apelr_data.errors import DataError
from apelr_data.planted_config import PlantedConfig
from apelr_data.planted_tables import PlantedTables, stationary_distribution

# What a generator is for; each purpose has its own, so that more of one thing leaves the others as they were.
TRANSITIONS, SHARED, OWN, PLANS, SYMBOLS = range(5)


class PlantedStream(NamedTuple):
    """The one document of a split."""

    symbols: np.ndarray
    "int64 [N], each in 0 .. V - 1."
    plans: np.ndarray
    "int64 [N], the gold plan of each symbol."


class PlantedSource:
    """A source whose plans and probabilities are known: a pure function of its config and the seed."""

    def __init__(self, config: PlantedConfig, *, seed: int) -> None:
        """`seed` draws the texts, and the tables too unless the config has a `table_seed`."""
        self.config = config
        self.seed = seed
        self.tables = draw_tables(config, seed if config.table_seed is None else config.table_seed)

    def stream(self, split: Split) -> PlantedStream:
        """The document of a split, with its plans. Raises DataError for another split."""
        if split not in get_args(Split):
            raise DataError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
        count = self.config.train_tokens if split == "train" else self.config.val_tokens
        number = get_args(Split).index(split)
        chunks = self.tables.chunks(count)
        plans = self._plans(int(chunks[-1]) + 1, _generator(self.seed, PLANS, number))[chunks]
        return PlantedStream(self._symbols(plans, _generator(self.seed, SYMBOLS, number)), plans)

    def _plans(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """The plans of `count` chunks."""
        bounds = _bounds(np.vstack([self.tables.transition, self.tables.initial]))
        uniforms, plans, plan = generator.random(count), np.empty(count, dtype=np.int64), -1
        for chunk in range(count):
            plans[chunk] = plan = int(bounds[plan].searchsorted(uniforms[chunk], side="right"))
        return plans

    def _symbols(self, plans: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """One symbol for each plan of `plans` [N]."""
        bounds = _bounds(self.tables.emission)
        symbols, symbol = np.empty(len(plans), dtype=np.int64), -1
        for t, (plan, uniform) in enumerate(zip(plans.tolist(), generator.random(len(plans)).tolist(), strict=True)):
            symbols[t] = symbol = int(bounds[plan, symbol].searchsorted(uniform, side="right"))
        return symbols


def draw_tables(config: PlantedConfig, seed: int) -> PlantedTables:
    """The tables of a config, drawn from the seed alone. Each plan's own table is the same for any number of plans."""
    plans, symbols = config.num_plans, config.vocab_size
    transition = np.ones((1, 1))
    if plans > 1:
        leaving = _generator(seed, TRANSITIONS).dirichlet(np.ones(plans - 1), size=plans)
        transition = np.diag(np.full(plans, config.self_transition))
        transition[~np.eye(plans, dtype=bool)] = ((1 - config.self_transition) * leaving).ravel()
    concentration = np.full(symbols, config.concentration)
    shared = _generator(seed, SHARED).dirichlet(concentration, size=symbols + 1)
    emission = np.empty((plans, symbols + 1, symbols))
    for plan in range(plans):
        own = _generator(seed, OWN, plan).dirichlet(concentration, size=symbols + 1)
        emission[plan] = config.overlap * shared + (1 - config.overlap) * own
    emission /= emission.sum(axis=2, keepdims=True)
    return PlantedTables(
        initial=stationary_distribution(transition),
        transition=transition,
        emission=emission,
        chunk_size=config.chunk_size,
        chunk_offset=config.chunk_offset,
    )


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    """A generator of its own for each purpose; the kind of generator is fixed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)))


def _bounds(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities [..., M] -> where each share of [0, 1) ends; values of probability 0 have none."""
    sums: np.ndarray = np.cumsum(probabilities, axis=-1)
    sums /= sums[..., -1:].copy()
    return sums
