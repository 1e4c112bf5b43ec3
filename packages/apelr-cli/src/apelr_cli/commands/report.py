"""`apelr report`: a page about a run, in one file."""

from pathlib import Path

import click

from apelr_cli.options import device_option, page_option, set_option

__all__ = ["report"]


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@page_option("[default: report.html in the run's folder]")
@set_option("Override a key of data, or seed, of the held-out text (data.path, where the corpus has moved)")
@click.option("--no-text", is_flag=True, help="Read no held-out text: leave out what needs it.")
@device_option
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def report(
    *, run_dir: Path, output: Path | None, overrides: tuple[str, ...], no_text: bool, device: str, quiet: bool
) -> None:
    """Make a page about a run: one HTML file that needs no network.

    RUN_DIR is the run's folder. The page shows the curves of training, held-out text coloured by the belief over plan
    states, each state with its tokens and what it writes, the transition matrix, forecasts against what came,
    interventions, config and environment. What a finished run has in its folder is not computed again; a run that is
    not finished is shown as far as it is.
    """
    from apelr_cli.console import result_stream
    from apelr_cli.report.assemble import assemble_report
    from apelr_cli.report.report_page import report_page
    from apelr_cli.report.run_files import check_run
    from apelr_cli.report.writing import check_output, write_page

    if no_text and overrides:
        raise click.UsageError("--set is about the held-out text: give it without --no-text")
    check_run(run_dir)
    path = run_dir / "report.html" if output is None else output
    check_output(path)

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    found = assemble_report(run_dir, device=device, overrides=overrides, with_text=not no_text, say=say)
    write_page(path, report_page(found))
    if not quiet:
        with result_stream() as stream:
            stream.write(f"{path}\n")
