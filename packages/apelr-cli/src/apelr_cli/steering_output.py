"""Steering as a part of the evaluation's JSON object, and the same as lines of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import torch

from apelr_cli.json_values import as_json
from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import check_has_chain
from apelr_cli.sentence_beats import count_beats
from apelr_cli.steering_options import SteeringRequest
from apelr_data import BEATS
from apelr_model import PlannerLM, PlanPolicy, Steering, normalized_mutual_information, steering, text_repetition

__all__ = ["check_steering", "steering_lines", "steering_report"]

Report = dict[str, Any]

CHUNKS = 4
"""Chunks that a text has unless more or fewer tokens are asked for; the first does not count."""
USED = 0.1
"""A state counts as used where its usage is at least this much of an even share, 1 / K."""
SHOWN = 3
"""States and beats that are named in a line of text."""


def steering_report(
    loaded: LoadedModel, request: SteeringRequest, policy: PlanPolicy, usage: Sequence[float], *, beats: bool
) -> Report:
    """What `--steering` finds, as plain JSON data. `usage` [K] is each state's share in the text that was evaluated.

    With `beats` the generated sentences are also labelled with storyworld's beats. Raises ValueError as `steering`.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    tokens = CHUNKS * model.chunks.chunk_size if request.tokens is None else request.tokens
    found = steering(
        model,
        [tokenizer.bos_id],
        texts=request.texts,
        max_new_tokens=tokens,
        eos_id=tokenizer.eos_id,
        policy=policy,
        seed=request.seed,
    )
    used = [k for k, share in enumerate(usage) if share >= USED / len(usage)]
    report: Report = as_json(
        {
            "texts_per_state": request.texts,
            "tokens": tokens,
            "burn_in": found.burn_in,
            "seed": request.seed,
            "recovered": found.recovered(),
            "recovered_used": found.recovered(used),
            "used_states": used,
            "recovery": found.recovery,
            "too_short": found.too_short,
            "repetition": {
                "forced": [text_repetition(texts) for texts in found.texts],
                "free": text_repetition(found.free_texts),
            },
            "beats": _beats(loaded, found) if beats else None,
        }
    )
    return report


def check_steering(model: PlannerLM, request: SteeringRequest) -> None:
    """Raise click.UsageError where the model cannot be steered, or the texts are too short to tell."""
    check_has_chain(model, "--steering")
    if model.num_plan_states == 1:
        raise click.UsageError("--steering needs a model with two plan states or more, got 1")
    chunk = model.chunks.chunk_size
    if request.tokens is not None and request.tokens <= chunk:
        raise click.UsageError(
            f"--steering-tokens must be above {chunk}, got {request.tokens}: the first chunk of a text does not count"
        )


def _beats(loaded: LoadedModel, found: Steering) -> Report:
    """The beats of the sentences under each state, and how much state and beat have to do with each other."""
    end = loaded.tokenizer.eos_id
    counts = [
        count_beats(
            [loaded.tokenizer.decode(ids) for ids in texts], complete=[bool(ids) and ids[-1] == end for ids in texts]
        )
        for texts in found.texts
    ]
    table = torch.tensor([each.beats for each in counts])
    return {
        "names": BEATS,
        "table": [each.beats for each in counts],
        "impossible": [each.impossible for each in counts],
        "normalized_mutual_info": normalized_mutual_information(table) if int(table.sum()) else None,
    }


def steering_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What `steering_report` found, as text."""
    yield (
        f"steering: {report['texts_per_state']} texts of at most {report['tokens']} tokens under each plan state, "
        f"read again from token {report['burn_in'] + 1} on"
    )
    yield _figure("texts taken for the state that wrote them", report["recovered"])
    even = f"the same, of the {len(report['used_states'])} states that are used"
    yield _figure(even, report["recovered_used"])
    if any(report["too_short"]):
        yield f"  {'texts that ended before that: nothing to tell by':<52} {sum(report['too_short']):>9}"
    forced, free = report["repetition"]["forced"], report["repetition"]["free"]
    yield _figure("distinct pairs of tokens (distinct-2)", _mean(each["distinct"][1] for each in forced))
    yield _figure("the same without forcing", free["distinct"][1])
    yield _figure("repeated runs of 4 tokens in a text (seq-rep-4)", _mean(each["repeated"][3] for each in forced))
    yield _figure("the same without forcing", free["repeated"][3])
    beats = report["beats"]
    if beats is not None:
        yield _figure("state and beat of the sentences (NMI, 0 to 1)", beats["normalized_mutual_info"])
    yield ""
    yield f"{'state':>5} {'recovered':>9}  {'read as state (texts)':<28}" + (
        "  beats of its sentences" if beats else ""
    )
    for state, row in enumerate(report["recovery"]):
        share = f"{row[state] / sum(row):.3f}" if sum(row) else "-"
        taken = ", ".join(f"{other} ({row[other]})" for other in _largest(row)) or "too short"
        line = f"{state:>5} {share:>9}  {taken:<28}"
        yield (f"{line}  {_beats_of(beats, state)}" if beats else line).rstrip()


def _figure(words: str, value: float | None) -> str:
    return f"  {words:<52} {'-' if value is None else f'{value:.4f}':>9}"


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _largest(counts: Sequence[int]) -> list[int]:
    """Where the largest counts above 0 stand, the largest first."""
    return sorted((i for i, count in enumerate(counts) if count), key=lambda i: -counts[i])[:SHOWN]


def _beats_of(beats: Mapping[str, Any], state: int) -> str:
    """The most frequent beats of a state's sentences with their shares, and the share of impossible sentences."""
    row, impossible = beats["table"][state], beats["impossible"][state]
    total = sum(row) + impossible
    shares = [f"{beats['names'][beat]} {row[beat] / total:.2f}" for beat in _largest(row)]
    return ", ".join([*shares, f"impossible {impossible / total:.2f}"] if impossible else shares) or "no whole sentence"
