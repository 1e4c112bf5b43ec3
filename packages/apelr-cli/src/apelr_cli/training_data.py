"""Text -> tokenizer -> packed rows -> batches: everything of the data's way that lies before the model."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from apelr_cli.known_plans import KnownPlans
from apelr_cli.prepared_text import PreparedText, Progress, prepare_text
from apelr_cli.row_batches import row_batches
from apelr_cli.row_feed import RowFeed
from apelr_cli.run_config import RunConfig
from apelr_cli.train_config import TrainLoop
from apelr_data import Batch, DataError, LaneOrder, RowOrder, Rows, Split, TokenStream, compression_baselines
from apelr_model import LabelledBatch, TokenBatch, World
from apelr_tokenizers import Tokenizer

__all__ = ["TrainingData", "arrange_rows", "prepare_data", "training_rows"]

BASELINE_LIMIT = 8 * 2**20
"""Largest text, in bytes, that general compressors are run on for comparison."""


@dataclass(frozen=True)
class TrainingData:
    """Both splits as rows, and how batches are taken from them."""

    text: PreparedText
    train: Rows
    validation: Rows
    order: RowOrder | LaneOrder
    carry_belief: bool
    """Whether training rows hand their belief on to the rows after them."""
    carry_in_evaluation: bool
    """Whether validation rows do."""
    settings: TrainLoop
    """How many rows make a batch, and how they are fetched."""
    max_validation_tokens: int | None
    """The cap on the validation ids; None for no limit."""
    world: World = field(default_factory=World)
    """Which of several processes this is: it fetches its share of the rows alone."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What made the ids."""
        return self.text.tokenizer

    @property
    def train_stream(self) -> TokenStream:
        """The training ids."""
        return self.text.streams["train"]

    @property
    def validation_stream(self) -> TokenStream:
        """The validation ids."""
        return self.text.streams["validation"]

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self.settings.rows_per_step

    def train_batch(self, step: int) -> tuple[TokenBatch, int]:
        """This process's rows of optimizer step `step` (0 is the first), and the UTF-8 bytes of their targets."""
        return self._fetch_rows(step)

    def train_batches(self, steps: range) -> Generator[tuple[TokenBatch, int], None, None]:
        """`train_batch` of each step, fetched as the settings say."""
        return RowFeed(self._fetch_rows, self.settings).over(steps)

    @property
    def _fetch_rows(self) -> "partial[tuple[TokenBatch, int]]":
        return partial(
            _rows_of_step,
            rows=self.train,
            order=self.order,
            batch_size=self.batch_size,
            own=self.world.share(self.batch_size),
            carry_belief=self.carry_belief,
        )

    def validation_batches(self, limit: int | None) -> Iterator[TokenBatch]:
        """The first `limit` batches of the validation rows in order (None: all), fetched as the settings say."""
        return (batch for batch in self._validation_feed.over(self._validation_rows(limit)) if batch is not None)

    def own_validation_batches(self, limit: int | None) -> Iterator[TokenBatch | None]:
        """This process's rows of each of them; None where it has none.

        Of the rows of a batch each process has every one that is as many places further on as there are processes:
        where rows go on from those of the batch before, it has read these, too.
        """
        rank, size = self.world.rank, self.world.size
        own = ((rows[rank::size], goes_on) for rows, goes_on in self._validation_rows(limit))
        return self._validation_feed.over(own)

    def close(self) -> None:
        """End the workers that wait for another evaluation. Rows can no longer be had from them."""
        self._validation_feed.close()

    @cached_property
    def _validation_feed(self) -> RowFeed[TokenBatch | None]:
        return RowFeed(partial(_rows_of_batch, rows=self.validation), self.settings)

    def labelled_validation_batches(self, known: KnownPlans, limit: int | None) -> Iterator[LabelledBatch]:
        """The same batches, with the plan of each target."""
        numbers = (rows for rows, _ in self._validation_rows(limit))
        return known.label(self.validation, numbers, self.validation_batches(limit))

    def validation_bytes(self, limit: int | None) -> int:
        """The UTF-8 bytes that the targets of `validation_batches(limit)` stand for; counted once."""
        if limit not in self._bytes_of:
            batches = (self.validation.batch(rows) for rows, _ in self._validation_rows(limit))
            self._bytes_of[limit] = sum(int(batch.byte_counts.sum()) for batch in batches)
        return self._bytes_of[limit]

    @cached_property
    def _bytes_of(self) -> dict[int | None, int]:
        return {}

    def _validation_rows(self, limit: int | None) -> Iterator[tuple[list[int], bool | None]]:
        return islice(row_batches(len(self.validation), self.batch_size, carried=self.carry_in_evaluation), limit)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on with the same data: counts and a digest of both streams' digests."""
        digests = self.train_stream.sha256 + self.validation_stream.sha256
        return {
            "train_tokens": len(self.train_stream.ids),
            "validation_tokens": len(self.validation_stream.ids),
            "sha256": hashlib.sha256(digests.encode("ascii")).hexdigest(),
        }

    def text_report(self) -> dict[str, int]:
        """Counts over both splits' documents: sizes, and what the odd-text policy did."""
        return asdict(self.text.reports["train"] + self.text.reports["validation"])

    def references(self) -> dict[str, float]:
        """Bits per byte of the very same validation text by other means.

        `source`: the generator's exact entropy (storyworld, planted). Elsewhere, for text of at most 8 MiB, general
        compressors: `gzip_9`, `xz_9e`, and `xz_9e_primed`, which has seen the training text. None where a token cap
        may have cut the validation text, or where the text can no longer be read as it was.
        """
        if len(self.validation_stream.ids) == self.max_validation_tokens:
            return {}
        exact = self.text.corpus.source_bits_per_byte("validation")
        if exact is not None:
            return {"source": exact}
        if self.train_stream.text_bytes + self.validation_stream.text_bytes > BASELINE_LIMIT:
            return {}
        try:
            train, validation = self._text("train"), self._text("validation")
        except DataError:  # a file removed or a hub out of reach is no reason to lose a finished run's figures
            return {}
        same = len(validation) == self.validation_stream.text_bytes
        return compression_baselines(train, validation) if same else {}

    def _text(self, split: Split) -> bytes:
        """The text of a split, read only as far as its ids reach."""
        wanted, text = self.text.streams[split].text_bytes, bytearray()
        for document in self.text.corpus.documents(split):
            text += document.encode()
            if len(text) >= wanted:
                break
        return bytes(text)


def prepare_data(
    config: RunConfig,
    tokenizer: Tokenizer | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> TrainingData:
    """Turn the text into ids, as `prepare_text` does, and the ids into rows.

    Raises DataError and TokenizerError (ValueErrors with one line).
    """
    text = prepare_text(
        config.data, config.tokenizer, seed=config.seed, tokenizer=tokenizer, say=say, progress=progress
    )
    return arrange_rows(config, text)


def training_rows(config: RunConfig, text: PreparedText) -> Rows:
    """The rows that training is made of, whatever the batch size."""
    train = config.train
    return Rows(text.streams["train"], train.seq_len, train.stride, document_mask=config.data.document_mask)


def arrange_rows(config: RunConfig, text: PreparedText, world: World | None = None) -> TrainingData:
    """The ids of both splits as rows. Raises DataError where there are too few."""
    data, train = config.data, config.train
    rows = training_rows(config, text)
    return TrainingData(
        text=text,
        train=rows,
        validation=Rows(text.streams["validation"], train.seq_len, document_mask=data.document_mask),
        order=_order(config, len(rows)),
        carry_belief=config.carries,
        carry_in_evaluation=config.carries_in_evaluation,
        settings=train,
        max_validation_tokens=data.max_val_tokens,
        world=World() if world is None else world,
    )


def _order(config: RunConfig, rows: int) -> RowOrder | LaneOrder:
    if config.data.order == "contiguous":
        return LaneOrder(rows, config.train.rows_per_step, config.seed, run=config.data.lane_rows)
    return RowOrder(rows, config.seed)


def _rows_of_step(
    step: int, rows: Rows, order: RowOrder | LaneOrder, batch_size: int, own: slice, carry_belief: bool
) -> tuple[TokenBatch, int]:
    first, count = step * batch_size + own.start, own.stop - own.start
    batch = rows.batch(order.indices(first, count))
    goes_on = None
    if carry_belief and isinstance(order, LaneOrder):
        goes_on = torch.from_numpy(order.continues(first, count))
    return to_token_batch(batch, goes_on), int(batch.byte_counts.sum())


def _rows_of_batch(numbers: tuple[list[int], bool | None], rows: Rows) -> TokenBatch | None:
    """The rows of these numbers, if there are any; do they go on from the batch before?"""
    return to_token_batch(rows.batch(numbers[0]), numbers[1]) if numbers[0] else None


def to_token_batch(batch: Batch, goes_on: bool | Tensor | None = None) -> TokenBatch:
    """numpy rows -> tensors, sharing memory. `goes_on` ([B], or one for all): do rows go on from the batch before?"""
    inputs, targets, lengths = (torch.from_numpy(array) for array in (batch.inputs, batch.targets, batch.lengths))
    positions = None if batch.positions is None else torch.from_numpy(batch.positions)
    continues = None if goes_on is None else torch.as_tensor(goes_on).expand(len(lengths))
    return TokenBatch(inputs, targets, lengths, positions, continues)
