"""`apelr config`: the shipped configurations."""

import click

from apelr_cli.shipped import shipped_description, shipped_names, shipped_text


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in shipped_names() if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, shell_complete=_complete)
def config(name: str | None) -> None:
    """List the shipped configurations, or print one.

    Without NAME every name is listed with its first line; with NAME that file is printed as it is,
    ready to be saved and changed: apelr config quickstart > mine.yaml
    """
    if name is not None:
        click.echo(shipped_text(name), nl=False)
        return
    formatter = click.HelpFormatter()
    formatter.write_dl([(each, shipped_description(each)) for each in shipped_names()], col_max=40)
    click.echo(formatter.getvalue(), nl=False)
