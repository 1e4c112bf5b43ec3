"""`apelr data`: what text there is, its token cache, and the rows that a model sees."""

from collections.abc import Callable
from typing import Any

import click

from apelr_cli.options import format_option, set_option

__all__ = ["data"]


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--config` and `--set`, as `apelr train` has them."""
    command = set_option("Override one key of the config")(command)
    return click.option(
        "--config",
        "config_name",
        required=True,
        metavar="FILE",
        help="Run configuration: a YAML file, or the name of a shipped one (apelr config lists them).",
    )(command)


@click.group()
def data() -> None:
    """List the sources of text, prepare a token cache, or show rows."""


@data.command("list")
@format_option("A paragraph for each source, or one JSON object a line.")
def list_(*, form: str) -> None:
    """List the sources of text.

    Each is a value of data.source, with its size, licence and splits, and how it is read.
    """
    from apelr_cli.console import result_stream
    from apelr_cli.source_list import source_lines

    with result_stream() as out:
        out.writelines(f"{line}\n" for line in source_lines(as_json=form == "json"))


@data.command()
@config_options
@click.option("--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@format_option("Counts in words, or one JSON object.")
@click.pass_context
def prepare(context: click.Context, /, *, config_name: str, overrides: tuple[str, ...], quiet: bool, form: str) -> None:
    """Write the token cache of a config.

    Fits the tokenizer and turns both splits into files of ids, from which runs with data.token_cache true train. A
    cache that is there already is read through and its checksums compared. Text or settings that have changed get a
    cache beside the old one, which stays until it is removed by hand. After Ctrl-C nothing half-written is left.
    Of the config only seed, tokenizer and data are read.
    """
    from apelr_cli.cache_preparation import prepare_cache, prepared_lines
    from apelr_cli.console import result_stream
    from apelr_cli.shipped import find_config
    from apelr_cli.signals import StopRequest, StopTraining
    from apelr_cli.text_sections import load_text_sections

    sections = load_text_sections(find_config(config_name), overrides)
    try:
        with StopRequest():
            prepared = prepare_cache(sections, quiet=quiet)
    except StopTraining as stopped:
        click.echo(f"stopped by {stopped.signal_name}; nothing half-written is left", err=True)
        context.exit(stopped.exit_code)
    with result_stream() as out:
        out.writelines(f"{line}\n" for line in prepared_lines(prepared, as_json=form == "json"))


@data.command()
@config_options
@click.option("--rows", type=click.IntRange(min=1), default=3, show_default=True, help="How many rows.")
@click.option(
    "--split", type=click.Choice(["train", "validation"]), default="train", show_default=True, help="The split."
)
@format_option("A line for each chunk of a row, or one JSON object a line and row.")
def show(*, config_name: str, overrides: tuple[str, ...], rows: int, split: str, form: str) -> None:
    """Show the first rows of a split.

    They are shown as the model sees them, with document and chunk borders, in the order of the text; training draws
    them in a seeded order. Nothing is written: the tokenizer and the ids are taken from the token cache where they
    are, else made of as much text as is needed.
    """
    from apelr_cli.config_reader import load_run_config
    from apelr_cli.console import result_stream
    from apelr_cli.row_output import row_lines
    from apelr_cli.shipped import find_config

    config = load_run_config(find_config(config_name), overrides)
    with result_stream() as out:
        for line in row_lines(config, "train" if split == "train" else "validation", rows, as_json=form == "json"):
            out.write(f"{line}\n")
