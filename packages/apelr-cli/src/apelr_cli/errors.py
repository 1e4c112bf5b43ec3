"""What a user can cause ends in one `Error: ...` line and exit code 1, never in a traceback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["ConfigError", "FriendlyGroup", "one_line_errors"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""


class ConfigError(ValueError):
    """A configuration that cannot be used. The text has one line for every problem, all problems at once."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn ValueError and OSError into a ClickException (exit code 1); a ConfigError keeps all its lines.

    A broken pipe passes: click ends quietly when the reader of our output has gone.
    """
    try:
        yield
    except ConfigError as error:
        raise click.ClickException(_listed(str(error).splitlines())) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(_of_os_error(error)) from error
    except ValueError as error:
        raise click.ClickException(_joined(str(error)) or type(error).__name__) from error


class FriendlyGroup(click.Group):
    """A command group whose commands report errors as `one_line_errors` says; Ctrl-C leaves with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        return _guarded(lambda: super(FriendlyGroup, self).invoke(ctx), ctx)


def _guarded(run: Callable[[], Any], ctx: click.Context) -> Any:
    try:
        with one_line_errors():
            return run()
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        ctx.exit(INTERRUPTED)


def _listed(lines: list[str]) -> str:
    """One problem as it is; several under a heading that counts them."""
    if len(lines) <= 1:
        return "".join(lines)
    return "\n  ".join([f"{len(lines)} problems in the configuration:", *lines])


def _of_os_error(error: OSError) -> str:
    if error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return _joined(str(error)) or type(error).__name__


def _joined(text: str) -> str:
    """The lines of `text` as one line, runs of white space closed up."""
    return "; ".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
