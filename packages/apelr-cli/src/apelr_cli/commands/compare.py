"""`apelr compare`: runs side by side."""

from pathlib import Path

import click

from apelr_cli.options import device_option, format_option, page_option

__all__ = ["compare"]


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path))
@page_option("[default: no page]")
@click.option("--no-plans", is_flag=True, help="Do not match plan states: read no checkpoint and no text.")
@device_option
@format_option("text prints a table with a column for each run; json one object: runs, notes, plans.")
def compare(runs: tuple[Path, ...], *, output: Path | None, no_plans: bool, device: str, form: str) -> None:
    """Compare runs: their figures, curves and plan states.

    Each RUN is the folder of one, of any model version, finished or not; two or more are needed. The table has bits per
    byte, nats, speed, sizes, plan MI and what interventions change. The plan states of the first run that has a chain
    of plans are matched with those of each other one that has the same tokenizer, on the first one's held-out text.
    With -o the curves are drawn over each other on a page that needs no network.
    """
    if len(runs) < 2:
        raise click.UsageError("give two runs or more; for one there is apelr report")
    from apelr_cli.console import result_stream, show_report
    from apelr_cli.report.comparison import compare_runs
    from apelr_cli.report.comparison_output import comparison_lines, comparison_page, comparison_report
    from apelr_cli.report.writing import check_output, write_page

    if output is not None:
        check_output(output)
    found, files = compare_runs(
        runs, device=device, with_plans=not no_plans, say=lambda line: click.echo(line, err=True)
    )
    if output is not None:
        write_page(output, comparison_page(found, files))
    if form == "json":
        show_report(comparison_report(found), None, None)
        return
    with result_stream() as stream:
        stream.writelines(f"{line}\n" for line in comparison_lines(found))
