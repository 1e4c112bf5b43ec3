"""Results as a file of JSON, and from it the tables of docs/benchmarks.md."""

import json
import re
from pathlib import Path
from typing import Any

import plot
from measured import UNITS, number

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
MARKS = "<!-- results: made by .ci/benchmarks -->", "<!-- end of results -->"


def read(path: Path) -> dict[str, Any]:
    """The results that a file holds; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"groups": {}}


def keep(path: Path, name: str, group: dict[str, Any]) -> None:
    """Put a group's results into the file, in place of its earlier ones."""
    found = read(path)
    found["groups"][name] = group
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def section(name: str, group: dict[str, Any]) -> str:
    """A heading, how it was measured, and the table of a group."""
    machine = group["machine"]
    flags = f" ({', '.join(machine['flags'])})" if machine["flags"] else ""
    memory = "" if machine["memory_gib"] is None else f", {machine['memory_gib']:.0f} GiB"
    where = f"{machine['processor'] or machine['system']}{flags}, {machine['cores']} cores{memory}"
    how = f"{machine['threads']} thread(s), torch {machine['torch']}, {machine['device']}"
    lines = [
        f"### {name}",
        "",
        f"{group['about'][0].upper()}{group['about'][1:]}.",
        "",
        f"`{group['command']}`, {group['date']}; {where}; {how}; {group['rounds']} rounds, {group['clock']} time.",
        "",
        "| work | measured (quartiles) | target | |",
        "|---|---|---|---|",
        *map(line, group["rows"]),
        *(["", f"![Growth of time and memory]({plot.PICTURE.name})"] if group["points"] else []),
    ]
    return "\n".join(lines)


def line(row: dict[str, Any]) -> str:
    """A row of a table."""
    median, lower, upper = (number(row[key], row["unit"]) for key in ("median", "lower_quartile", "upper_quartile"))
    unit = UNITS[row["unit"]][1]
    spread = "" if lower == median == upper else f" ({lower}–{upper})"
    target = ""
    if row["target"] is not None:
        sign, bound = row["target"].split()
        target = f"{'≥' if sign == '>=' else '≤'} {number(float(bound), row['unit'])} {unit}".rstrip()
    met = {None: "", True: "met", False: "**missed**"}[row["met"]]
    return f"| {row['work']} | {median} {unit}{spread} | {target} | {met} |".replace("  ", " ")


def fill_page(found: dict[str, Any], order: list[str]) -> None:
    """Put the tables between the marks of docs/benchmarks.md, in the order of the names.

    Sections of groups that were not measured stay as they are.
    """
    start, end = MARKS
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    old, _, after = rest.partition(end)
    sections = {each.partition("\n")[0]: f"### {each.strip()}" for each in re.split("(?m)^### ", old)[1:]}
    sections |= {name: section(name, group) for name, group in found["groups"].items() if name in order}
    names = sorted(sections, key=lambda name: order.index(name) if name in order else len(order))
    tables = "\n\n".join(sections[name] for name in names)
    PAGE.write_text(f"{before}{start}\n{tables}\n{end}{after}", encoding="utf-8", newline="\n")
    if "growth" in found["groups"]:
        plot.PICTURE.write_text(plot.picture(found["groups"]["growth"]["points"]), encoding="utf-8", newline="\n")
