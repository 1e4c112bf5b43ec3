"""Drawing samples and handing each piece of text on as soon as it is certain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import click

from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import PlanChoice
from apelr_cli.sample_row import Forecast, SampleRow
from apelr_cli.user_input import warn_of_unknown
from apelr_model import GeneratedToken, NothingLeftError, PlanForecast, SamplingSettings, generate

__all__ = ["SampleOutput", "SampleRequest", "draw_samples", "hand_on", "sampling_settings"]


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What is to be drawn."""

    prompt: str
    """Text that every sample continues."""
    settings: SamplingSettings
    """How each token is drawn."""
    max_new_tokens: int
    """Tokens generated at most, in each sample."""
    seed: int
    """Seed of the first sample; sample i has seed + i."""
    num_samples: int
    """Samples drawn, in one batch."""
    stops: Sequence[str]
    """Texts before which a sample ends."""
    lookahead_steps: int
    """Chunks that the forecasts reach ahead; 0 makes none."""
    async_lookahead: bool
    """Whether they are made beside the tokens and shown as they come."""
    choice: PlanChoice
    """How the belief is used."""

    @property
    def foreseen(self) -> bool:
        """Whether forecasts are events of their own."""
        return self.async_lookahead and self.lookahead_steps > 0


class SampleOutput(Protocol):
    """Where samples go as they are made; pieces of different samples come interleaved."""

    def start(self) -> None:
        """The model is ready."""

    def add(self, index: int, text: str, row: SampleRow) -> None:
        """Sample `index`, which `row` holds, goes on with `text`."""

    def foresee(self, index: int, forecast: Forecast) -> None:
        """A forecast of sample `index` has come as an event of its own; the row holds it too."""

    def end(self, index: int, row: SampleRow) -> None:
        """Sample `index` is complete."""

    def abandon(self) -> None:
        """No sample that is not complete will be."""


def sampling_settings(given: Mapping[str, float | None]) -> SamplingSettings:
    """The settings with the model package's defaults for what is None. Raises click.UsageError naming the options."""
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        return SamplingSettings(**chosen)
    except ValueError as error:
        lines = [line.partition(" ") for line in str(error).splitlines()]
        problems = [f"--{name.replace('_', '-')} {rest}" for name, _, rest in lines]
        raise click.UsageError("; ".join(problems)) from error


def draw_samples(loaded: LoadedModel, request: SampleRequest, output: SampleOutput) -> None:
    """Draw every sample of `request`, each with its own seed, in one batch.

    A sample does not depend on its neighbours. Raises NothingLeftError where a sample cannot go on.
    """
    tokenizer = loaded.tokenizer
    encoding = tokenizer.encode(request.prompt)
    warn_of_unknown(tokenizer, request.prompt, encoding)
    prompt_ids = [tokenizer.bos_id, *encoding.ids]
    rows = [SampleRow(request.prompt, prompt_ids, tokenizer, request.stops) for _ in range(request.num_samples)]
    events = generate(
        loaded.model,
        [row.prompt_ids for row in rows],
        request.settings,
        max_new_tokens=request.max_new_tokens,
        seeds=[request.seed + index for index in range(request.num_samples)],
        eos_id=tokenizer.eos_id,
        lookahead_steps=request.lookahead_steps,
        async_lookahead=request.async_lookahead,
        policy=request.choice.policy,
        freeze_planner=request.choice.freeze_planner,
        is_finished=lambda index: rows[index].done,
    )
    hand_on(events, rows, output, foreseen=request.foreseen)


def hand_on(
    events: Iterable[GeneratedToken | PlanForecast], rows: Sequence[SampleRow], output: SampleOutput, *, foreseen: bool
) -> None:
    """Give `output` what `events` add to the rows, as soon as it is certain, and each row when it is complete.

    `foreseen` says whether forecasts are events of their own. Raises what making the events raises.
    """
    unfinished = set(range(len(rows)))
    output.start()
    try:
        for event in events:
            row = rows[event.row]
            if isinstance(event, PlanForecast):
                forecast = row.foresee(event)
                if forecast is not None:
                    output.foresee(event.row, forecast)
            else:
                output.add(event.row, row.push(event), row)
            if row.done and (not foreseen or row.is_foreseen):
                output.end(event.row, row)
                unfinished.remove(event.row)
    except (NothingLeftError, KeyboardInterrupt):
        output.abandon()
        raise
    for index in sorted(unfinished):
        output.add(index, rows[index].finish(), rows[index])
        output.end(index, rows[index])
