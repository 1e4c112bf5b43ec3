"""A comparison of runs as a table of text, as JSON, and as a page."""

from collections.abc import Iterator, Sequence
from typing import Any

from apelr_cli.json_values import as_json
from apelr_cli.report.comparison import Comparison, PlanMatch, RunColumn
from apelr_cli.report.curves import comparison_charts
from apelr_cli.report.page import render
from apelr_cli.report.report_page import chart_data
from apelr_cli.report.run_files import RunFiles

__all__ = ["comparison_lines", "comparison_page", "comparison_report"]

ROWS = {
    "version": ("version", "s"),
    "source": ("text", "s"),
    "parameters": ("parameters", ",.0f"),
    "bits_per_byte": ("bits per byte", ".4f"),
    "nll": ("nats per token", ".4f"),
    "tokens_per_second": ("tokens/s in training (median)", ",.0f"),
    "plan_states": ("plan states", "d"),
    "used_states": ("states in use", ".2f"),
    "plan_mi": ("plan MI (nats)", ".4f"),
    "uniform_delta": ("loss when all states weigh the same", "+.4f"),
    "shuffled_delta": ("loss with beliefs of another row", "+.4f"),
    "frozen_delta": ("loss with a belief that never changes", "+.4f"),
    "reset_delta": ("loss with a belief forgotten at boundaries", "+.4f"),
    "state_persistence": ("boundaries at which the plan stays", ".3f"),
    "known_plans_nmi": ("known plans found (NMI)", ".3f"),
}
"""Field of `RunColumn` -> words, form. Losses are changes in nats per token: above 0 the plan helps."""
MOST_STATES = 32
"""Rows and columns of a table of matched states on the page."""


def comparison_report(found: Comparison) -> dict[str, Any]:
    """Plain JSON data: `runs`, `notes` and `plans`, with the fields of `RunColumn` and `PlanMatch`."""
    report: dict[str, Any] = as_json(
        {"runs": list(found.columns), "notes": list(found.notes), "plans": list(found.matches)}
    )
    return report


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The table with a column for each run, then notes and matched states."""
    table = [["", *(column.name for column in found.columns)], *comparison_rows(found.columns)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
    for note in found.notes:
        yield f"Note: {note}"
    for match in found.matches:
        yield ""
        yield from _match_lines(match)


def comparison_rows(columns: Sequence[RunColumn]) -> list[list[str]]:
    """Words and a cell for each run; rows of which no run knows anything are left out."""
    rows = [["steps", *map(_steps, columns)]]
    for field, (words, form) in ROWS.items():
        values = [getattr(column, field) for column in columns]
        if any(value is not None for value in values):
            rows.append([words, *("-" if value is None else format(value, form) for value in values)])
    return rows


def _steps(column: RunColumn) -> str:
    of = "" if column.max_steps is None else f" of {column.max_steps:,}"
    return f"{column.step:,}{of}{'' if column.finished else ', not finished'}"


def _match_lines(match: PlanMatch) -> Iterator[str]:
    if match.reason:
        yield f"plans of {match.second} are not matched with those of {match.first}: {match.reason}"
        return
    agreement = (
        f"NMI {match.normalized_mutual_info:.3f}, ARI {match.adjusted_rand:.3f}, "
        f"matched states agree at {match.agreement:.1%}"
    )
    yield f"plans of {match.first} and {match.second}, {match.targets:,} targets: {agreement}"
    pairs = [f"{state} = {other}" if other >= 0 else f"{state} = none" for state, other in enumerate(match.matching)]
    yield f"  states: {', '.join(pairs)}"


def comparison_page(found: Comparison, runs: Sequence[tuple[str, RunFiles]]) -> str:
    """The page: table, curves over each other, matched states."""
    charts = comparison_charts(runs)
    return render(
        "compare.html",
        title=f"{len(runs)} runs · APEL-R comparison",
        command="apelr compare",
        data={"charts": {each.key: chart_data(each) for each in charts}, "passages": []},
        columns=found.columns,
        rows=comparison_rows(found.columns),
        notes=found.notes,
        charts=charts,
        matches=[(match, *_largest(match)) for match in found.matches],
        shares=_shares,
    )


def _shares(match: PlanMatch) -> list[list[float]]:
    return [[value / match.targets for value in row] for row in match.table]


def _largest(match: PlanMatch) -> tuple[list[int], list[int], dict[int, int]]:
    """The states of both with the most targets, in the order of their numbers, and the pairs among them."""
    first = [sum(row) for row in match.table]
    second = [sum(row) for row in zip(*match.table, strict=True)]
    rows, columns = (
        sorted(sorted(range(len(sizes)), key=lambda k: -sizes[k])[:MOST_STATES]) for sizes in (first, second)
    )
    return rows, columns, {state: other for state, other in enumerate(match.matching) if other >= 0}
