"""`apelr data show`: rows of a split as the model sees them, with document and chunk borders."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import torch

from apelr_cli.run_config import RunConfig
from apelr_data import Batch, Rows, Split, TokenCache, TokenStream, open_corpus, pack_documents
from apelr_model import ChunkRule, build_model
from apelr_tokenizers import Tokenizer, fit_tokenizer

__all__ = ["row_lines"]


class ShownToken(NamedTuple):
    """One target."""

    position: int
    """Targets before it in its row, or in its document with `data.document_mask`."""
    chunk: int | None
    """The chunk it lies in; None for a model without a plan."""
    id: int
    text: str
    """The text of this id alone; of a special token its name."""
    bytes: int
    """UTF-8 bytes of the original text that it accounts for."""
    border: str | None
    """begin at BOS and end at EOS."""


class ShownRow(NamedTuple):
    """T or fewer targets and the id that is read before the first."""

    row: int
    first: str
    """The text of the row's first input."""
    targets: list[ShownToken]

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the original text behind the targets."""
        return sum(target.bytes for target in self.targets)


def row_lines(config: RunConfig, split: Split, count: int, *, as_json: bool) -> Iterator[str]:
    """The first `count` rows, or as many as there are: a JSON object each, or lines of text.

    Raises DataError and TokenizerError.
    """
    stride = (config.train.stride if split == "train" else None) or config.train.seq_len
    tokenizer, stream = _first_tokens(config, split, count, stride)
    rows = Rows(stream, config.train.seq_len, stride, document_mask=config.data.document_mask)
    rule = _chunk_rule(config, tokenizer.vocab_size)
    names = dict(enumerate(config.tokenizer.special_tokens))
    for number in range(min(count, len(rows))):
        shown = _shown(number, rows.batch([number]), tokenizer, rule, names)
        yield from [json.dumps(_plain(shown), ensure_ascii=False)] if as_json else _text(shown)


def _first_tokens(config: RunConfig, split: Split, rows: int, stride: int) -> tuple[Tokenizer, TokenStream]:
    """The tokenizer, and at least the ids of the first rows, `stride` apart; from the token cache where they are."""
    data = config.data
    corpus = open_corpus(data, seed=config.seed)
    tokenizer = None
    if data.token_cache and data.reuse_token_cache:
        cache = TokenCache(data, config.tokenizer, seed=config.seed)
        tokenizer = cache.find_tokenizer()
        tokens = cache.find_tokens(tokenizer) if tokenizer else None
        if tokenizer and tokens:
            return tokenizer, tokens.streams[split]
    tokenizer = tokenizer or fit_tokenizer(config.tokenizer, corpus.documents("train"))
    wanted = (rows - 1) * stride + config.train.seq_len + 1
    cap = data.max_tokens(split)
    return tokenizer, pack_documents(corpus.documents(split), tokenizer, max_tokens=min(wanted, cap or wanted))


def _chunk_rule(config: RunConfig, vocab_size: int) -> ChunkRule | None:
    """Where the model's chunks end; None where it has no plan."""
    with torch.device("meta"):
        model = build_model(config.model, vocab_size)
    return model.chunks if model.num_plan_states > 1 else None


def _shown(number: int, batch: Batch, tokenizer: Tokenizer, rule: ChunkRule | None, names: dict[int, str]) -> ShownRow:
    """Row `number`, which is alone in its batch."""
    length = int(batch.lengths[0])
    positions = range(length) if batch.positions is None else batch.positions[0, :length].tolist()
    borders = {tokenizer.bos_id: "begin", tokenizer.eos_id: "end"}

    def text_of(token: int) -> str:
        return names[token] if token in names else tokenizer.decode([token])

    return ShownRow(
        row=number,
        first=text_of(int(batch.inputs[0, 0])),
        targets=[
            ShownToken(
                position, rule.chunk_of(position) if rule else None, token, text_of(token), size, borders.get(token)
            )
            for position, token, size in zip(
                positions,
                batch.targets[0, :length].tolist(),
                batch.byte_counts[0, :length].tolist(),
                strict=True,
            )
        ],
    )


def _plain(shown: ShownRow) -> dict[str, object]:
    targets = [target._asdict() for target in shown.targets]
    return {"row": shown.row, "text_bytes": shown.text_bytes, "first": shown.first, "targets": targets}


def _text(shown: ShownRow) -> Iterator[str]:
    """A heading, the first input, and a line for each chunk with a bar between tokens."""
    begun = sum(target.border == "begin" for target in shown.targets)
    documents = f", {begun} {'document begins' if begun == 1 else 'documents begin'}" if begun else ""
    yield f"row {shown.row}: {len(shown.targets)} targets, {shown.text_bytes} bytes of text{documents}"
    yield f"  reads      {_visible(shown.first)}"
    for run in _runs(shown.targets):
        head = "targets" if run[0].chunk is None else f"chunk {run[0].chunk}"
        yield f"  {head:<9}  {'|'.join(_visible(target.text) for target in run)}"


def _runs(targets: list[ShownToken]) -> list[list[ShownToken]]:
    """The targets from one chunk's beginning, or one document's, to the next."""
    runs: list[list[ShownToken]] = []
    for target in targets:
        if not runs or target.position == 0 or target.chunk != runs[-1][-1].chunk:
            runs.append([])
        runs[-1].append(target)
    return runs


def _visible(text: str) -> str:
    """The text on one line: what cannot be seen is escaped, as JSON does it."""
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
