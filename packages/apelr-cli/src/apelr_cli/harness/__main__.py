"""`python -m apelr_cli.harness` is the harness's own command with our models in it, as `--model apelr`."""

import sys

import click

from apelr_cli.errors import INTERRUPTED, one_line_errors
from apelr_cli.harness.tasks import require_harness

__all__ = ["main"]


def main() -> None:
    """Run the harness's command. What a user can cause ends in one line and exit code 1."""
    try:
        with one_line_errors():
            require_harness()
            from lm_eval.__main__ import cli_evaluate

            import apelr_cli.harness.model  # noqa: F401  # registers the model

            cli_evaluate()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
