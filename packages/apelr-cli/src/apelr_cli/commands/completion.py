"""`apelr completion`: the script with which a shell completes commands and options."""

import click

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    bash: echo 'source <(apelr completion bash)' >> ~/.bashrc
    zsh:  echo 'source <(apelr completion zsh)' >> ~/.zshrc
    fish: apelr completion fish > ~/.config/fish/completions/apelr.fish

    It works in shells that are started afterwards. bash must be 4.4 or newer.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click completes in each of SHELLS"
    script = kind(context.find_root().command, {}, "apelr", "_APELR_COMPLETE")
    click.echo(script.source_template % script.source_vars())
