"""`apelr export`: a checkpoint as a folder for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from apelr_cli.options import tokenizer_option, unexpected_option

if TYPE_CHECKING:
    from apelr_cli.exporting import ExportForm

__all__ = ["export"]


@click.command()
@click.argument("source", metavar="CKPT", type=click.Path(path_type=Path))
@click.argument("destination", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["hf", "safetensors"]),
    default="hf",
    show_default=True,
    help="hf: a folder that transformers loads (needs apelr-cli[transformers]); safetensors: weights, config and "
    "tokenizer in plain files.",
)
@tokenizer_option
@unexpected_option
@click.option("--force", is_flag=True, help="Replace DIR where it is an earlier export.")
def export(
    *,
    source: Path,
    destination: Path,
    form: "ExportForm",
    tokenizer: Path | None,
    allow_unexpected: bool,
    force: bool,
) -> None:
    """Write a checkpoint as a folder for other programs.

    CKPT is a checkpoint file or a run folder. DIR is a new folder; it appears when it is complete, and not at all where
    anything fails. It holds no training state. apelr convert reads it back.
    """
    from apelr_cli.exporting import export_checkpoint

    for notice in export_checkpoint(
        source, destination, form, tokenizer=tokenizer, allow_unexpected=allow_unexpected, force=force
    ):
        click.echo(notice)
