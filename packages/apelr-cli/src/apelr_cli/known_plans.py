"""The plans that a corpus was written under, target by target, where it knows them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_cli.run_config import RunConfig
from apelr_data import Corpus, PlantedSource, Rows, Split, TokenStream, gold_plans
from apelr_model import ChunkRule, LabelledBatch, TokenBatch

__all__ = ["KnownPlans", "TextOrigin", "find_known_plans"]


class TextOrigin(NamedTuple):
    """Where a stream of ids comes from."""

    corpus: Corpus
    split: Split
    config: RunConfig
    """Its `data` and `seed` count."""


@dataclass(frozen=True)
class KnownPlans:
    """The gold plan of every id of a stream."""

    names: tuple[str, ...]
    """The name of each plan."""
    labels: Tensor
    """int64 [N]; -1 where there is none."""
    true_transition: Tensor | None
    """[K*, K*] probabilities of the source's own chain, where its chunks are the model's; else None."""

    def label(
        self, rows: Rows, numbers: Iterable[Sequence[int]], batches: Iterable[TokenBatch]
    ) -> Iterator[LabelledBatch]:
        """Batches of the stream's rows, whose numbers are in `numbers`, with the plan of each target."""
        for of_batch, batch in zip(numbers, batches, strict=False):
            places = torch.from_numpy(rows.stream_positions(of_batch))
            yield LabelledBatch(batch, self.labels[places.clamp(min=0)].masked_fill(places < 0, -1))


def find_known_plans(origin: TextOrigin, stream: TokenStream, chunks: ChunkRule) -> KnownPlans:
    """The plans of a stream that was packed from the origin's documents; `chunks` are the model's.

    Raises DataError for a source that does not know its plans.
    """
    found = gold_plans(origin.corpus, origin.split, stream)
    return KnownPlans(found.names, torch.from_numpy(found.labels), _true_transition(origin.config, chunks))


def _true_transition(config: RunConfig, chunks: ChunkRule) -> Tensor | None:
    """[K*, K*] of a planted source whose chunks fall where the model's do."""
    planted = config.data.planted
    if planted is None or (planted.chunk_size, planted.chunk_offset) != (chunks.chunk_size, chunks.offset):
        return None
    return torch.from_numpy(PlantedSource(planted, seed=config.seed).tables.transition)
