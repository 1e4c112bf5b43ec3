"""`apelr convert`: any checkpoint that can be read, as a checkpoint of today's form."""

from pathlib import Path

import click

from apelr_cli.options import tokenizer_option, unexpected_option

__all__ = ["convert"]


@click.command()
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@tokenizer_option
@unexpected_option
@click.option("--force", is_flag=True, help="Replace DST where it exists.")
def convert(*, source: Path, destination: Path, tokenizer: Path | None, allow_unexpected: bool, force: bool) -> None:
    """Turn any checkpoint that can be read into one of today's form.

    SRC is a checkpoint file (of today, or of the prototype), the folder of a sharded checkpoint, a run folder, or a
    folder that apelr export wrote. DST is a file; it carries the tokenizer, and the optimizer state as far as there is
    one and it fits, so that everything else can be given it alone. DST appears when it is complete, and not at all
    where anything fails.
    """
    from apelr_cli.conversion import convert_checkpoint

    for notice in convert_checkpoint(source, destination, tokenizer, allow_unexpected=allow_unexpected, force=force):
        click.echo(notice)
