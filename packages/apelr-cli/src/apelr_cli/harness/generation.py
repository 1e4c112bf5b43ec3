"""Continuing many prompts, in batches of those that are drawn alike."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apelr_cli.harness.requests import GenerationRequest, encode_texts
from apelr_cli.loading import LoadedModel
from apelr_cli.sample_row import SampleRow
from apelr_model import PlanPolicy, generate

__all__ = ["ContinuedText", "continue_texts"]


class ContinuedText(NamedTuple):
    """What a prompt was continued with."""

    number: int
    """The request's place among those asked for, from 0."""
    text: str
    """Up to a stop text or the end."""


def continue_texts(
    loaded: LoadedModel,
    asked: Sequence[GenerationRequest],
    *,
    batch_size: int,
    seed: int,
    policy: PlanPolicy | None = None,
    freeze_planner: bool = False,
) -> Iterator[ContinuedText]:
    """The continuation of every prompt, in an order of convenience; at most `batch_size` are made at once.

    Request i draws with seed + i, so that its text does not depend on the batch. A prompt of any length is read
    whole, from BOS. `policy` and `freeze_planner` are those of `generate`.
    """
    ids = encode_texts(loaded.tokenizer, (request.prompt for request in asked))
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, request in enumerate(asked):
        alike.setdefault((request.settings, request.max_new_tokens), []).append(number)
    for numbers in alike.values():
        numbers.sort(key=lambda number: len(ids[asked[number].prompt]), reverse=True)
        for start in range(0, len(numbers), batch_size):
            part = numbers[start : start + batch_size]
            rows = [_row(loaded, asked[number], ids[asked[number].prompt]) for number in part]
            _continue(loaded, asked[part[0]], rows, [seed + number for number in part], policy, freeze_planner)
            yield from (ContinuedText(number, row.text) for number, row in zip(part, rows, strict=True))


def _row(loaded: LoadedModel, request: GenerationRequest, ids: list[int]) -> SampleRow:
    return SampleRow(request.prompt, [loaded.tokenizer.bos_id, *ids], loaded.tokenizer, request.stops)


def _continue(
    loaded: LoadedModel,
    request: GenerationRequest,
    rows: Sequence[SampleRow],
    seeds: Sequence[int],
    policy: PlanPolicy | None,
    freeze_planner: bool,
) -> None:
    """Continue all `rows`, whose settings and length are those of `request`."""
    tokens = generate(
        loaded.model,
        [row.prompt_ids for row in rows],
        request.settings,
        max_new_tokens=request.max_new_tokens,
        seeds=seeds,
        eos_id=loaded.tokenizer.eos_id,
        policy=policy,
        freeze_planner=freeze_planner,
        is_finished=lambda index: rows[index].done,
    )
    for token in tokens:
        rows[token.row].push(token)
    for row in rows:
        row.finish()
