"""Text -> tokenizer -> packed rows -> batches: everything of the data's way that lies before the model."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from apelr_cli.run_config import RunConfig
from apelr_data import Batch, Corpus, RowOrder, Rows, TokenStream, compression_baselines, open_corpus, pack_documents
from apelr_model import TokenBatch
from apelr_tokenizers import Tokenizer, fit_tokenizer

__all__ = ["TrainingData", "prepare_data"]

BASELINE_LIMIT = 8 * 2**20
"""Largest text, in bytes, that general compressors are run on for comparison."""


@dataclass(frozen=True)
class TrainingData:
    """Both splits as rows, and how batches are taken from them."""

    tokenizer: Tokenizer
    corpus: Corpus
    train_stream: TokenStream
    validation_stream: TokenStream
    train: Rows
    validation: Rows
    order: RowOrder
    batch_size: int

    def train_batch(self, step: int) -> tuple[TokenBatch, int]:
        """The rows of optimizer step `step` (0 is the first), and the UTF-8 bytes their targets stand for."""
        rows = self.order.indices(step * self.batch_size, self.batch_size)
        batch = self.train.batch(rows)
        return to_token_batch(batch), int(batch.byte_counts.sum())

    def validation_batches(self, limit: int | None) -> Iterator[TokenBatch]:
        """The first `limit` batches of the validation rows in order (None: all)."""
        return (to_token_batch(self.validation.batch(rows)) for rows in self._validation_rows(limit))

    def validation_bytes(self, limit: int | None) -> int:
        """The UTF-8 bytes that the targets of `validation_batches(limit)` stand for."""
        return sum(int(self.validation.batch(rows).byte_counts.sum()) for rows in self._validation_rows(limit))

    def _validation_rows(self, limit: int | None) -> Iterator[list[int]]:
        count = len(self.validation)
        batches = math.ceil(count / self.batch_size)
        for number in range(batches if limit is None else min(limit, batches)):
            start = number * self.batch_size
            yield list(range(start, min(start + self.batch_size, count)))

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on with the same data: counts and a digest of both streams."""
        digest = hashlib.sha256(self.train_stream.ids.tobytes())
        digest.update(self.validation_stream.ids.tobytes())
        return {
            "train_tokens": len(self.train_stream.ids),
            "validation_tokens": len(self.validation_stream.ids),
            "sha256": digest.hexdigest(),
        }

    def text_report(self) -> dict[str, int]:
        """Counts over both splits' documents: sizes, and what the odd-text policy did."""
        return asdict(self.corpus.report())

    def references(self) -> dict[str, float]:
        """Bits per byte of the very same validation text by other means; none where a token cap has cut that text.

        `source`: the exact entropy of the generator (storyworld). Elsewhere, for text of at most 8 MiB, general
        compressors: `gzip_9`, `xz_9e`, and `xz_9e_primed`, which has seen the training text.
        """
        exact = self.corpus.source_bits_per_byte("validation")
        text = "".join(self.corpus.documents("validation")).encode()
        if len(text) != self.validation_stream.text_bytes:
            return {}
        if exact is not None:
            return {"source": exact}
        if self.train_stream.text_bytes + len(text) > BASELINE_LIMIT:
            return {}
        return compression_baselines("".join(self.corpus.documents("train")).encode(), text)


def prepare_data(config: RunConfig, tokenizer: Tokenizer | None = None) -> TrainingData:
    """Open the corpus, fit the tokenizer on its training text unless one is given, and pack both splits.

    Raises DataError and TokenizerError (ValueErrors with one line).
    """
    corpus = open_corpus(config.data, seed=config.seed)
    if tokenizer is None:
        tokenizer = fit_tokenizer(config.tokenizer, corpus.documents("train"))
    streams = {
        split: pack_documents(corpus.documents(split), tokenizer, max_tokens=config.data.max_tokens(split))
        for split in ("train", "validation")
    }
    train = Rows(streams["train"], config.train.seq_len, config.train.stride)
    return TrainingData(
        tokenizer=tokenizer,
        corpus=corpus,
        train_stream=streams["train"],
        validation_stream=streams["validation"],
        train=train,
        validation=Rows(streams["validation"], config.train.seq_len),
        order=RowOrder(len(train), config.seed),
        batch_size=config.train.batch_size,
    )


def to_token_batch(batch: Batch) -> TokenBatch:
    """numpy rows -> tensors, sharing memory."""
    return TokenBatch(*(torch.from_numpy(array) for array in (batch.inputs, batch.targets, batch.lengths)))
