"""The gold plan of every id of a packed stream, for sources whose plans are known."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from apelr_data.config import Split
from apelr_data.corpus import Corpus
from apelr_data.errors import DataError
from apelr_data.pack import TokenStream
from apelr_data.sources.protocol import PlannedDocument

WHITE_SPACE = np.frombuffer(b" \t\n\v\f\r", dtype=np.uint8)


class GoldPlans(NamedTuple):
    """The plans that a source followed when it wrote the text of a stream."""

    labels: np.ndarray
    "int64 [N], the plan of each id; -1 for BOS, EOS and where none is known."
    names: tuple[str, ...]
    "The name of each plan."


def gold_plans(corpus: Corpus, split: Split, stream: TokenStream) -> GoldPlans:
    """The gold plan of every id of `stream`, which was packed from the documents of `corpus` and `split`.

    An id has the plan of the first character at or behind its beginning that is no space: a token may begin with the
    space before a sentence. Ids that account for no bytes have none. Raises DataError for a source without gold plans,
    and for a stream of another text.
    """
    names = corpus.plan_names
    documents = corpus.planned_documents(split)
    sizes = np.asarray(stream.byte_counts[:], dtype=np.int64)
    begins = np.flatnonzero(np.asarray(stream.ids[:]) == stream.bos_id)
    labels = np.full(len(sizes), -1, dtype=np.int64)
    for first, end in pairwise([0, *begins[1:].tolist(), len(sizes)]):
        own, document = sizes[first:end], next(documents, None)
        missing = -1 if document is None else len(document.text.encode("utf-8")) - int(own.sum())
        if document is None or missing < 0 or (missing > 0 and end < len(sizes)):  # a cap may cut the last one
            raise DataError(f"the stream was not packed from the {split} documents of data.source {corpus.name}")
        labels[first:end] = np.where(own > 0, _plans_at(document, np.cumsum(own) - own), -1)
    return GoldPlans(labels, names)


def _plans_at(document: PlannedDocument, begins: np.ndarray) -> np.ndarray:
    """begins [M], bytes of a document -> [M] the plan of the first visible byte from each on; -1 where none follows."""
    data = np.frombuffer(document.text.encode("utf-8"), dtype=np.uint8)
    visible = np.flatnonzero(~np.isin(data, WHITE_SPACE))
    found = np.searchsorted(visible, begins)
    places = np.append(visible, 0)[found]
    plans = document.plans[np.searchsorted(document.ends, places, side="right")]
    return np.where(found < len(visible), plans, -1)
