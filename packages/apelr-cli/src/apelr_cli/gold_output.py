"""A model's plans against known ones, as parts of the evaluation's JSON object and as lines of text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from apelr_cli.json_values import as_json
from apelr_model import GoldChunks, lookahead_skill, plan_recovery

__all__ = ["recovery_lines", "recovery_report", "skill_lines", "skill_report"]

Report = dict[str, Any]

AGREEMENT = {
    "normalized_mutual_info": "normalised mutual information (0 to 1)",
    "adjusted_rand": "adjusted Rand index (chance 0, the same 1)",
    "accuracy": "chunks that agree, states named by matching",
    "used_states": "states in use, exp(entropy of their shares)",
}
"""What each figure is, in words."""


def recovery_report(chunks: GoldChunks, names: Sequence[str], *, true_transition: Tensor | None = None) -> Report:
    """`plan_recovery` as plain JSON data, with the names of the known plans."""
    found = plan_recovery(chunks, true_transition=true_transition)
    report: Report = as_json({"plans": list(names), **found._asdict()})
    return report


def skill_report(chunks: GoldChunks, say: Callable[[str], None]) -> Report | None:
    """`lookahead_skill` as plain JSON data; None, and `say` is told why, where there is too little text for it."""
    try:
        report: Report = as_json(lookahead_skill(chunks))
    except ValueError as error:
        say(f"Note: no skill of forecasts: {error}")
        return None
    return report


def recovery_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What `recovery_report` found, as text."""
    heading = f"plans against the {len(report['plans'])} known ones, {report['chunks']} chunks"
    yield f"{heading:<54} {'filtered':>9} {'smoothed':>9}"
    for name, words in AGREEMENT.items():
        yield f"  {words:<52} {report['filtered'][name]:>9.4f} {report['smoothed'][name]:>9.4f}"
    distance = report["transition"]
    if distance is not None:
        figures = f"mean {distance['mean']:.4f}, largest {distance['largest']:.4f}"
        yield f"  rows of P from the true ones, total variation: {figures}"
    matching = report["filtered"]["matching"]
    called = [f"{name} {_state_of(matching, label)}" for label, name in enumerate(report["plans"])]
    yield f"  state matched with each plan: {', '.join(called)}"


def _state_of(matching: Sequence[int], label: int) -> int | str:
    return matching.index(label) if label in matching else "none"


def skill_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What `skill_report` found, as text."""
    yield "forecasts of the known plan (nats): mean log score, and skill over three baselines [95 % interval]"
    yield _skill_line("chunks ahead", "score", ["over the long run", "over no change", "over label frequencies"])
    for each in report["steps"]:
        over = [_interval(each[name]) for name in ("over_stationary", "over_persistence", "over_frequencies")]
        yield _skill_line(each["step"], f"{each['forecast']:.4f}", over)


def _skill_line(step: int | str, score: str, over: Sequence[str]) -> str:
    return f"{step:>14} {score:>9}  {over[0]:<27}  {over[1]:<27}  {over[2]}"


def _interval(value: Mapping[str, float | None]) -> str:
    if value["low"] is None:
        return f"{value['mean']:+.4f} [one row]"
    return f"{value['mean']:+.4f} [{value['low']:+.4f}, {value['high']:+.4f}]"
