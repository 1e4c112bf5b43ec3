"""What `apelr doctor` finds: one line each, with what to do where something is wrong; as a page and as JSON."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

from apelr_cli.terminal_text import visible

__all__ = ["Finding", "State", "doctor_lines", "doctor_report"]

State = Literal["ok", "warning", "problem"]
WIDTH = 22
"""Of the names in a section, where none is longer."""


class Finding(NamedTuple):
    """One fact about this installation or machine."""

    section: str
    name: str
    value: str
    state: State = "ok"
    """A problem keeps APEL-R from working on the CPU, or is what was asked about; a warning may matter later."""
    fix: str = ""
    """What to do about it, in one line."""


def doctor_report(findings: Sequence[Finding]) -> dict[str, Any]:
    """The JSON object: whether all is well, and every finding."""
    return {"ok": _is_well(findings), "findings": [each._asdict() for each in findings]}


def doctor_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A page: the sections, then every warning and problem with its fix, then whether all is well."""
    for section, group in groupby(findings, lambda each: each.section):
        yield section
        found = list(group)
        width = max(WIDTH, *(len(each.name) for each in found))
        for each in found:
            mark = {"ok": " ", "warning": "?", "problem": "!"}[each.state]
            yield f"{mark} {each.name:<{width}} {visible(each.value)}".rstrip()
        yield ""
    for each in findings:
        if each.state != "ok":
            yield f"{each.state}: {each.name}: {visible(each.value)}; {visible(each.fix)}"
    yield "All is well for use on the CPU." if _is_well(findings) else "Not all is well: see the problems above."


def _is_well(findings: Sequence[Finding]) -> bool:
    return all(each.state != "problem" for each in findings)
