"""The `apelr` command group. Commands, and with them torch, are imported when one is called."""

from importlib import import_module
from typing import TYPE_CHECKING

import click

from apelr_cli.errors import FriendlyGroup
from apelr_cli.near_names import did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "Train a model as a config file says.",
    "sample": "Continue a prompt with a trained model.",
    "score": "Score a text with a trained model.",
    "data": "List the sources of text, prepare a token cache, or show rows.",
    "eval": "Evaluate a model, and what its planner does, on held-out text.",
    "report": "Make a page about a run: one HTML file that needs no network.",
    "compare": "Compare runs: their figures, curves and plan states.",
    "bench": "Measure how fast a model is on this machine.",
    "convert": "Turn any checkpoint that can be read into one of today's form.",
    "export": "Write a checkpoint as a folder for other programs.",
    "config": "List the shipped configurations, or print one.",
    "doctor": "Tell whether this installation and machine can run APEL-R.",
    "completion": "Print the script that completes commands and options in a shell.",
}
"""Each command and its line in the help, with which its own help begins; `commands/<name>.py` holds it as `<name>`."""


class LazyGroup(FriendlyGroup):
    """Knows the commands' names and one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"apelr_cli.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command), f"commands/{cmd_name}.py must hold the click command {cmd_name}"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with, and the rest of them; a misspelt one is told the nearest name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{name}'{did_you_mean(name, COMMANDS) or '.'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help page."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Complete a command's name, and the options of the group itself."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _show_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from apelr_cli.versions import version_text

        click.echo(version_text())
        context.exit()


VERSION_HELP = "Show the versions of APEL-R's packages, torch and Python, and exit."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help=VERSION_HELP)
def main() -> None:
    """Train and sample language models whose plan is filtered exactly."""
