"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = [
    "check_decoding",
    "checkpoint_option",
    "count",
    "decoding_options",
    "device_option",
    "format_option",
    "output_option",
    "page_option",
    "set_option",
    "tokenizer_option",
    "unexpected_option",
    "weights_option",
]


def count(minimum: int) -> click.IntRange:
    """The type of an option that counts: from `minimum` to 2^62, which any position in a text can be compared with."""
    return click.IntRange(minimum, 2**62)


checkpoint_option = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    required=True,
    help="Checkpoint file, or a run folder for its newest checkpoint.",
)

tokenizer_option = click.option(
    "--tokenizer",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Tokenizer file of a checkpoint that carries none (the prototype's). "
    "[default: the one beside the checkpoint, else the recorded path]",
)

unexpected_option = click.option(
    "--allow-unexpected", is_flag=True, help="Leave out tensors that the model does not have instead of refusing them."
)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes what there is.",
)


def weights_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--weights fp32|bf16|int8`, with the command's own words on what it is good for."""
    return click.option(
        "--weights", type=click.Choice(["fp32", "bf16", "int8"]), default="fp32", show_default=True, help=help_text
    )


def decoding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--compile` and `--weights`, of commands that decode; `check_decoding` says whether they go together."""
    compiled = click.option(
        "--compile/--no-compile",
        "compiled",
        default=False,
        show_default=True,
        help="Run each step of decoding as compiled code: the same text but for rounding, after seconds of compiling.",
    )
    weights = weights_option(
        "Decode with weights in fewer bits, which --compile then reads faster; bf16 and int8 need it."
    )
    return compiled(weights(command))


def check_decoding(weights: str, *, compiled: bool) -> None:
    """Raise click.UsageError where `decoding_options` do not go together."""
    if weights != "fp32" and not compiled:
        raise click.UsageError(f"--weights {weights} needs --compile: without it, fewer bits take more time")


def _in_a_folder(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"{value.parent} is not a folder", param_hint="--output")
    return value


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    callback=_in_a_folder,
    help="Write the JSON object into this file too.",
)


def page_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`-o FILE.html`, with what happens where it is not given."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help=f"Write the page into this file; an earlier page there is replaced, nothing else is. {default}",
    )


def set_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--set KEY.SUB=VALUE`, with the command's own words on which keys."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.SUB=VALUE",
        help=f"{help_text}; may be given several times, the last one wins.",
    )


def format_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--format text|json`, with the command's own words on what each prints."""
    return click.option(
        "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help=help_text
    )
