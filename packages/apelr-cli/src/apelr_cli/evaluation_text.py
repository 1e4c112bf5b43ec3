"""The text that `apelr eval` reads: a split of the run's corpus, or a file, as rows in batches."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from apelr_cli.config_reader import load_run_config, override_run_config, run_config_from_plain
from apelr_cli.errors import ConfigError
from apelr_cli.known_plans import KnownPlans, TextOrigin, find_known_plans
from apelr_cli.loading import LoadedModel
from apelr_cli.memory_check import check_text_fits_memory
from apelr_cli.plan_choice import has_chain
from apelr_cli.prepared_text import prepare_text
from apelr_cli.row_batches import row_batches
from apelr_cli.run_config import RunConfig
from apelr_cli.shown import shown
from apelr_cli.training_data import to_token_batch
from apelr_cli.user_input import InputError, read_text
from apelr_data import DataConfig, Rows, Split, TokenStream, open_corpus, pack_documents
from apelr_model import ChunkRule, LabelledBatch, TokenBatch
from apelr_tokenizers import Tokenizer

__all__ = ["EvaluationText", "TextPassage", "TextRequest", "find_text"]

OVERRIDABLE = ("data", "seed")
"""Sections whose keys decide what text there is."""


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """What text is asked for."""

    split: Split = "validation"
    """Of the corpus, where no file is given."""
    file: Path | None = None
    """UTF-8 text, read as one document."""
    config: Path | None = None
    """A run's config in place of the checkpoint's."""
    overrides: Sequence[str] = ()
    """`key.sub=value` over either config."""
    seq_len: int | None = None
    """Targets in a row, if the text has as many; None for the config's."""
    batch_size: int | None = None
    """Rows read at once; None for the config's, or fewer where rows are longer than the config's."""


PASSAGES_WITHIN = 2**22
"""Ids from a text's beginning that passages are looked for in."""


class TextPassage(NamedTuple):
    """A piece of a text that is read by itself."""

    start: int
    """Where its first id stands in the stream."""
    ids: list[int]
    """T + 1 ids."""
    place: str
    """Where that is, in words."""


class EvaluationText:
    """Rows of a text, in order."""

    def __init__(
        self,
        stream: TokenStream,
        rows: Rows,
        *,
        name: str,
        seq_len: int,
        batch_size: int,
        carry_belief: bool,
        origin: TextOrigin | None,
    ) -> None:
        self._stream = stream
        self._rows = rows
        self.name = name
        self.seq_len = seq_len
        self.batch_size = batch_size
        self.carry_belief = carry_belief
        """Whether a row begins with the belief that the row before it in its lane ended with."""
        self.origin = origin
        """The corpus that it is of; None for a file."""
        self.text_bytes = 0
        """UTF-8 bytes that the targets of the batches given out so far stand for."""

    @property
    def rows(self) -> int:
        """Rows in all."""
        return len(self._rows)

    @property
    def unknown(self) -> int:
        """Characters of the text that became the unknown id."""
        return self._stream.unknown

    def batches(self) -> Iterator[TokenBatch]:
        """Every row once; `text_bytes` grows with them."""
        self.text_bytes = 0
        for numbers, goes_on in self._row_batches():
            batch = self._rows.batch(numbers)
            self.text_bytes += int(batch.byte_counts.sum())
            yield to_token_batch(batch, goes_on)

    def passages(self, count: int, longest: int) -> list[TextPassage]:
        """Up to `count` passages of at most `longest` targets: the first documents from their beginnings.

        Where there are fewer documents, also pieces of them, evenly spaced; none reaches into the next document.
        """
        ids = torch.from_numpy(self._stream.ids[:PASSAGES_WITHIN].astype("int64"))
        bos = self._stream.bos_id
        begins = sorted({0, *(ids == bos).nonzero().flatten().tolist()})
        if len(begins) < count:
            begins = sorted({*begins, *range(0, len(ids) - 1, max(longest, (len(ids) - 1) // count))})
        found: list[TextPassage] = []
        for start, end in itertools.pairwise([*begins, len(ids)]):
            piece = ids[start : min(end, start + longest + 1)].tolist()
            if len(piece) > 1 and len(found) < count:
                place = "a document's beginning" if piece[0] == bos else f"from token {start} on"
                found.append(TextPassage(start, piece, place))
        return found

    def known_plans(self, chunks: ChunkRule) -> KnownPlans:
        """The plans that the text was written under; `chunks` are the model's. Raises DataError, InputError."""
        if self.origin is None:
            raise InputError(f"{self.name} has no known plans: only the corpora storyworld and planted have")
        return find_known_plans(self.origin, self._stream, chunks)

    def labelled_batches(self, known: KnownPlans) -> Iterator[LabelledBatch]:
        """`batches`, with the plan of each target."""
        return known.label(self._rows, (numbers for numbers, _ in self._row_batches()), self.batches())

    def row_numbers(self) -> list[int]:
        """The number of each row of `batches`, in their order."""
        return [number for numbers, _ in self._row_batches() for number in numbers]

    def _row_batches(self) -> Iterator[tuple[list[int], bool | None]]:
        return row_batches(self.rows, self.batch_size, carried=self.carry_belief)


def find_text(
    loaded: LoadedModel, request: TextRequest, *, say: Callable[[str], None] = lambda line: None
) -> EvaluationText:
    """The text with the model's tokenizer, cut into rows. `say` is told what takes long.

    Raises ConfigError, DataError and InputError, each a ValueError with a line for every problem.
    """
    config = _config(loaded, request)
    origin = None
    if request.file is not None:
        name, stream = str(request.file), _file_stream(request.file, loaded.tokenizer)
    else:
        name = f"{request.split} split of {config.data.source}"
        stream, origin = _split_stream(config, loaded.tokenizer, request.split, say)
    seq_len = max(1, min(request.seq_len or config.train.seq_len, len(stream.ids) - 1))  # a row costs its width
    longer = max(1.0, seq_len / config.train.seq_len)
    batch_size = request.batch_size or max(1, math.floor(config.train.rows_per_step / longer))
    rows = Rows(stream, seq_len, document_mask=config.data.document_mask)
    return EvaluationText(
        stream,
        rows,
        name=name,
        seq_len=seq_len,
        batch_size=batch_size,
        carry_belief=has_chain(loaded.model) and not config.data.document_mask,
        origin=origin,
    )


def _config(loaded: LoadedModel, request: TextRequest) -> RunConfig:
    """The config that says what text there is, how long rows are and how many are read at once."""
    foreign = [each for each in request.overrides if each.partition("=")[0].strip().split(".")[0] not in OVERRIDABLE]
    if foreign:
        lines = [f"--set {shown(each)}: only keys of data, and seed, can be set here" for each in foreign]
        raise ConfigError("\n".join(lines))
    if request.config is not None:
        return load_run_config(request.config, request.overrides)
    if loaded.run_config:
        return override_run_config(_without_cache(run_config_from_plain(loaded.run_config)), request.overrides)
    if request.file is None and not request.overrides:
        raise ConfigError(
            "the checkpoint does not say what text it was trained on: give --file FILE, --config FILE or --set data.…"
        )
    return override_run_config(RunConfig(), request.overrides)


def _without_cache(config: RunConfig) -> RunConfig:
    """`config` without its token cache: a checkpoint may be a stranger's, and is not asked where to write files."""
    own = DataConfig()
    data = replace(
        config.data,
        token_cache=own.token_cache,
        token_cache_dir=own.token_cache_dir,
        reuse_token_cache=own.reuse_token_cache,
    )
    return replace(config, data=data)


def _file_stream(path: Path, tokenizer: Tokenizer) -> TokenStream:
    text = read_text(path)
    if not text:
        raise InputError(f"{path} is empty: there is nothing to evaluate")
    return pack_documents([text], tokenizer)


def _split_stream(
    config: RunConfig, tokenizer: Tokenizer, split: Split, say: Callable[[str], None]
) -> tuple[TokenStream, TextOrigin]:
    data = config.data
    if data.token_cache:
        text = prepare_text(data, config.tokenizer, seed=config.seed, tokenizer=tokenizer, say=say)
        return text.streams[split], TextOrigin(text.corpus, split, config)
    if split == "train":
        check_text_fits_memory(data, say)
    corpus = open_corpus(data, seed=config.seed)
    stream = pack_documents(corpus.documents(split), tokenizer, max_tokens=data.max_tokens(split))
    return stream, TextOrigin(corpus, split, config)
