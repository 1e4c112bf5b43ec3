"""From what `apelr sample` was asked for to where its samples go: text, JSON, plan states in colour, a conversation."""

from typing import TextIO

import click

from apelr_cli.console import result_stream
from apelr_cli.conversation import Conversation
from apelr_cli.conversation_loop import LineReader, converse
from apelr_cli.display_options import Display
from apelr_cli.loading import LoadedModel
from apelr_cli.plan_paint import PlanPaint
from apelr_cli.plan_text import PlanLegend, PlanTextOutput
from apelr_cli.sample_output import JsonOutput, TextOutput
from apelr_cli.sampling import SampleOutput, SampleRequest, draw_samples

__all__ = ["show_conversation", "show_samples"]


def show_samples(loaded: LoadedModel, request: SampleRequest, display: Display, form: str) -> None:
    """Draw all samples and print them."""
    _say_notice(request, form)
    with result_stream() as stream:
        if form == "json":
            output: SampleOutput = JsonOutput(stream, request.choice.gate)
        else:
            output = _text_output(loaded, request, display, stream, in_turns=False)
        draw_samples(loaded, request, output)


def show_conversation(loaded: LoadedModel, request: SampleRequest, display: Display, first: str | None) -> None:
    """Take turns with standard input, from its first line or, where there is one, from the text `first`."""
    _say_notice(request, "text")
    with result_stream() as stream:
        converse(
            Conversation(loaded, request),
            LineReader(),
            lambda: _text_output(loaded, request, display, stream, in_turns=True),
            first,
        )


def _say_notice(request: SampleRequest, form: str) -> None:
    if request.choice.notice and form == "text":
        click.echo(request.choice.notice, err=True)


def _text_output(
    loaded: LoadedModel, request: SampleRequest, display: Display, stream: TextIO, *, in_turns: bool
) -> TextOutput:
    """A turn's output begins with the continuation, since who gave the text has seen it."""
    prompt = "" if in_turns else request.prompt
    if not display.show_plan:
        return TextOutput(stream, prompt, request.num_samples)
    paint = PlanPaint(loaded.model.num_plan_states, display.color or "auto", stream)
    legend = PlanLegend(loaded, request.choice, steps=request.lookahead_steps, with_words=not in_turns)
    return PlanTextOutput(stream, prompt, request.num_samples, paint, legend)
