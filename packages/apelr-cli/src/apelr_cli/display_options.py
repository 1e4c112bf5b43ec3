"""The options of `apelr sample` about what is seen of it: the plan in colours, and a conversation."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple

import click

__all__ = ["Display", "display_options"]


class Display(NamedTuple):
    """What was asked for."""

    show_plan: bool
    color: Literal["auto", "always", "never"] | None
    """None: not asked for, which is auto."""
    interactive: bool

    def check(self, form: str, num_samples: int, *, compiled: bool) -> None:
        """Raise click.UsageError where options do not go together."""
        if self.color and not self.show_plan:
            raise click.UsageError("--color says how --show-plan shows plan states: give --show-plan too")
        if form == "json" and self.show_plan:
            raise click.UsageError("--show-plan is for --format text; JSON has the belief before every token")
        if form == "json" and self.interactive:
            raise click.UsageError("--interactive is for --format text")
        if num_samples > 1 and self.interactive:
            raise click.UsageError("--interactive is one text: give it without --num-samples")
        if compiled and self.interactive:
            raise click.UsageError(
                "--interactive goes without --compile, whose steps write over the state they go on from"
            )


OPTIONS = (
    click.option(
        "--show-plan",
        is_flag=True,
        help="Show the likeliest plan state before each token, by colour or number, and below each sample a legend "
        "with the forecast. Never changes what is generated.",
    ),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        help="With --show-plan: colours on a terminal that has them unless NO_COLOR is set, always or never; without, "
        "numbers stand in the text. [default: auto]",
    ),
    click.option(
        "--interactive",
        is_flag=True,
        help="A conversation: each line is text to continue, or a command (/help). Context and belief are kept; Ctrl-C "
        "stops the text, Ctrl-D leaves. --prompt is its first line.",
    ),
)
"""In the order of the help page."""


def display_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets them together, as `display`."""

    @wraps(command)
    def bundled(**values: Any) -> Any:
        display = Display(*(values.pop(name) for name in Display._fields))
        return command(display=display, **values)

    decorated: Callable[..., Any] = bundled
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated
