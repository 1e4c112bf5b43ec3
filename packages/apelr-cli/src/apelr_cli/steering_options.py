"""The options of `apelr eval` about steering: texts that are written under each plan state and read again."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import click

from apelr_cli.options import count

__all__ = ["SteeringRequest", "steering_options"]


class SteeringRequest(NamedTuple):
    """What was asked for."""

    texts: int
    """Texts under each plan state."""
    tokens: int | None
    """Most tokens of a text; None for four chunks."""
    seed: int
    """The first text's; each has one of its own."""


def steering_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--steering` and what belongs to it; it gets them together, as `steering`, None without."""

    @wraps(command)
    def bundled(steering: int | None, steering_tokens: int | None, steering_seed: int | None, **values: Any) -> Any:
        if steering is None:
            if steering_tokens is not None or steering_seed is not None:
                raise click.UsageError("--steering-tokens and --steering-seed need --steering N")
            return command(steering=None, **values)
        if values["no_diagnostics"]:
            raise click.UsageError("--steering asks how much each plan state is used: give it without --no-diagnostics")
        return command(steering=SteeringRequest(steering, steering_tokens, steering_seed or 0), **values)

    decorated: Callable[..., Any] = bundled
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


OPTIONS = (
    click.option(
        "--steering",
        type=count(1),
        metavar="N",
        help="Also write N texts under each plan state, forced, and see whether the state is found again in them.",
    ),
    click.option(
        "--steering-tokens",
        type=count(1),
        metavar="N",
        help="With --steering: most tokens of a text. [default: four chunks]",
    ),
    click.option(
        "--steering-seed",
        type=click.IntRange(0, 2**62),
        metavar="SEED",
        help="With --steering: seed of the first text; the others count on from it. [default: 0]",
    ),
)
"""In the order of the help page."""
