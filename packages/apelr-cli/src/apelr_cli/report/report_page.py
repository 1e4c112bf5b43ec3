"""From the data of a report to its page: what is shown first, the colours of tokens, and what the script looks up."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from apelr_cli.evaluation_output import DELTAS, FIGURES
from apelr_cli.plan_output import likeliest
from apelr_cli.report.assemble import ReportData
from apelr_cli.report.curves import Chart, Series
from apelr_cli.report.page import render
from apelr_cli.report.passages import Passage, PassageToken, Row
from apelr_cli.report.svg_graph import MOST_NODES, walk_order

__all__ = ["TokenMark", "chart_data", "report_page"]

SHOWN_PASSAGES = 3
MATRIX_STATES = 32
"""Rows and columns of a heat map, at most."""
SHARES = 6
"""States that are named of a belief."""
LEVELS = 10
"""Strengths of a colour, as the classes p0 ... p10 of the style sheet."""
MOST_BITS = 10.0
"""Surprise that has the strongest shade."""
ENDS = {"\n": "↵\n", "\t": "⇥\t"}
"""White space that is made visible."""


class TokenMark(NamedTuple):
    """A token as the page shows it."""

    shown: str
    new_chunk: bool
    filtered: str
    """The likeliest state and the strength of its colour: `3 7`; `x 4` where there are no states."""
    smoothed: str


def report_page(run: ReportData) -> str:
    """The page of one run."""
    passages, chained = run.passages[:SHOWN_PASSAGES], bool(run.transition)
    by_usage = [card.number for card in run.cards] or list(range(run.num_states))
    shown = sorted(by_usage[:MATRIX_STATES])
    order = _round(run, by_usage[:MOST_NODES]) if chained else []
    overlap = _overlap_chart(run.passages)
    deltas = [(words, run.planner[key]) for key, words in DELTAS.items() if _is_told(key, run.planner.get(key))]
    parts = {
        "training": bool(run.charts or run.usage),
        "text": bool(passages),
        "states": bool(run.cards),
        "transitions": chained,
        "forecasts": overlap is not None,
        "interventions": bool(deltas),
        "settings": True,
    }
    charts = [*run.charts, *([overlap] if overlap else [])]
    return render(
        "report.html",
        title=f"{run.title} · APEL-R report",
        command="apelr report",
        data={"charts": {each.key: chart_data(each) for each in charts}, "passages": _looked_up(run, passages)},
        run=run,
        parts=[(anchor, anchor) for anchor, there in parts.items() if there],
        chained=chained,
        passages=passages,
        marks=[_marks(passage, run.num_states) for passage in passages],
        known=bool(run.plan_names),
        plans=[[token.plan for token in passage.tokens] for passage in passages],
        matched=_matched(run),
        shown=shown,
        few=len(shown) < run.num_states,
        order=order,
        fewer=len(order) < run.num_states,
        usage={card.number: card.usage for card in run.cards},
        names={card.number: card.match.name for card in run.cards if card.match and card.match.is_clear},
        overlap=overlap,
        overlap_rows=[] if overlap is None else list(zip(*(each.points for each in overlap.series), strict=True)),
        deltas=deltas,
        deltas_words=", ".join(f"{words} {value:+.4f}" for words, value in deltas),
        forced=run.planner.get("forced_state_matrix"),
        figures=[(words, run.planner[key]) for key, words in FIGURES.items() if run.planner.get(key) is not None],
    )


def _is_told(key: str, value: float | None) -> bool:
    """Whether an intervention has been measured; the lookahead feedback that a model does not have is none."""
    return value is not None and (key != "feedback_delta_loss" or value != 0)


def chart_data(chart: Chart) -> dict[str, Any]:
    """What the script looks up under the pointer: steps, and the value of each series at them."""
    steps = sorted({step for each in chart.series for step, _ in each.points})
    lines = [dict(each.points) for each in chart.series]
    return {"x": steps, "lines": [[_short(line.get(step)) for step in steps] for line in lines]}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _round(run: ReportData, states: Sequence[int]) -> list[int]:
    """The states round the circle: from the likeliest at a document's beginning on."""
    return walk_order(states, run.transition, max(states, key=lambda state: run.initial[state]))


def _overlap_chart(passages: Sequence[Passage]) -> Chart | None:
    """Means over the passages of what forecasts gave to the plan that came, by chunks ahead."""
    sums: dict[int, list[tuple[float, ...]]] = {}
    for steps, *shares in (each for passage in passages for each in passage.overlaps):
        sums.setdefault(steps, []).append(tuple(shares))
    if len(sums) < 2:
        return None
    means = {steps: [sum(each) / len(found) for each in zip(*found, strict=True)] for steps, found in sums.items()}
    names = ("forecast", "the plan stays as it is", "the long run's shares")
    series = tuple(
        Series(name, tuple((steps, row[i]) for steps, row in sorted(means.items()))) for i, name in enumerate(names)
    )
    title = "Share given to the plan that came"
    return Chart("overlap", title, "0 to 1", series, across="chunks ahead")


def _matched(run: ReportData) -> dict[int, int]:
    """The state that each known plan is matched with."""
    matching = run.planner["recovery"]["filtered"]["matching"] if run.planner.get("recovery") else ()
    clear = {card.number for card in run.cards if card.match}
    return {label: state for state, label in enumerate(matching) if state in clear}


def _marks(passage: Passage, num_states: int) -> list[TokenMark]:
    smoothed = passage.smoothed or passage.filtered
    chunks = [token.chunk for token in passage.tokens]
    begins = [False, *(before != now for before, now in itertools.pairwise(chunks))]
    marks = []
    for token, new_chunk, first, second in zip(passage.tokens, begins, passage.filtered, smoothed, strict=True):
        colours = (_colour(first), _colour(second)) if num_states > 1 else (_surprise(token), _surprise(token))
        marks.append(TokenMark(_visible(token), new_chunk and num_states > 1 and bool(passage.smoothed), *colours))
    return marks


def _visible(token: PassageToken) -> str:
    if token.special or not token.text:
        return f"⟨{token.text or token.id}⟩"
    return "".join(ENDS.get(character, character) for character in token.text)


def _colour(belief: Row) -> str:
    state = likeliest(belief)
    return f"{state} {round(belief[state] * LEVELS)}"


def _surprise(token: PassageToken) -> str:
    bits = MOST_BITS if token.bits is None else min(token.bits, MOST_BITS)
    return f"x {round(bits / MOST_BITS * LEVELS)}"


def _looked_up(run: ReportData, passages: Sequence[Passage]) -> list[Mapping[str, Any]]:
    """What the script shows of a token: bits, chunk, id, known plan, and the largest shares of its beliefs."""
    return [
        {
            "tokens": [
                [None if token.bits is None else round(token.bits, 2), token.chunk, token.id, _plan(run, token)]
                for token in passage.tokens
            ],
            "filtered": [list(_largest(row)) for row in passage.filtered] if run.num_states > 1 else [],
            "smoothed": [list(_largest(row)) for row in passage.smoothed] if run.num_states > 1 else [],
        }
        for passage in passages
    ]


def _plan(run: ReportData, token: PassageToken) -> str | None:
    return run.plan_names[token.plan] if run.plan_names and token.plan >= 0 else None


def _largest(belief: Row) -> Iterator[tuple[int, int]]:
    """(state, share in thousandths) of the largest shares."""
    for state in sorted(range(len(belief)), key=lambda k: -belief[k])[:SHARES]:
        yield state, round(1000 * belief[state])
