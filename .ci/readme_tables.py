"""The reference tables of README.md, made from the code: configs, knobs, flags, sources and output files.

`python .ci/readme_tables.py` rewrites the tables in place; readme_test.py fails when they are out of date.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

README = Path(__file__).resolve().parent.parent / "README.md"
MARKS = "<!-- {name}: made by {script} -->", "<!-- end of {name} -->"


def tables() -> dict[str, str]:
    """Every table by name, as Markdown."""
    return {
        "configs": table(["config", "what it is for"], config_rows()),
        "knobs": table(["key", "default", "meaning"], knob_rows()),
        "flags": table(["command", "flag", "meaning"], flag_rows()),
        "sources": table(["`data.source`", "text", "size", "licence", "where"], source_rows()),
        "files": table(["file", "content"], file_rows()),
    }


def table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def config_rows() -> Iterator[list[str]]:
    from apelr_cli.shipped import shipped_names, shipped_text

    for name in shipped_names():
        yield [f"`{name}`", shipped_text(name).splitlines()[0].removeprefix("# ")]


def field_notes(kind: type) -> dict[str, str]:
    """The sentence under each field of a dataclass, own and inherited."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
            for field, note in itertools.pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(note, ast.Expr):
                    found[field.target.id] = " ".join(ast.literal_eval(note.value).split())
    return found


class Knob(NamedTuple):
    """One key of a config file."""

    hint: Any
    default: Any
    note: str
    owners: tuple[str, ...] = ()
    """The values of the telling key that it belongs to; empty where it belongs to all."""


def knobs(kind: type, prefix: str = "") -> Iterator[tuple[str, Knob]]:
    """Every field by dotted key, sections and their forms unfolded."""
    notes, hints = field_notes(kind), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        union = get_args(hints[field.name]) if get_origin(hints[field.name]) in (Union, UnionType) else ()
        forms = [form for form in union or (hints[field.name],) if dataclasses.is_dataclass(form)]
        if forms:
            yield from form_knobs(forms, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", Knob(hints[field.name], default, notes[field.name])


def form_knobs(forms: list[type], prefix: str) -> Iterator[tuple[str, Knob]]:
    """The keys of a section with several forms: each once, with the forms that have it where not all do."""
    from apelr_cli.variants import Forms

    if len(forms) == 1:
        yield from knobs(forms[0], prefix)
        return
    section = Forms(forms)
    merged: dict[str, list[tuple[Knob, tuple[str, ...]]]] = {}
    for form in forms:
        for key, knob in knobs(form, prefix):
            merged.setdefault(key, []).append((knob, knob.owners or section.values_of(form)))
    for key, found in merged.items():
        owners = tuple(dict.fromkeys(value for _, values in found for value in values))
        if key == f"{prefix}{section.key}":
            yield key, Knob(Literal[owners], owners[0], found[0][0].note.split(";")[0].rstrip(".") + ".")
        else:
            everywhere = len(owners) == len(section.all_values())
            yield key, found[0][0]._replace(owners=() if everywhere else owners)


def knob_rows() -> Iterator[list[str]]:
    from apelr_cli.run_config import RunConfig

    for key, knob in knobs(RunConfig):
        choices = f" One of {', '.join(map(str, get_args(knob.hint)))}." if get_origin(knob.hint) is Literal else ""
        plain = list(knob.default) if isinstance(knob.default, tuple) else knob.default
        value = yaml.safe_dump(plain, default_flow_style=True).removesuffix("..." + chr(10)).strip()
        only = f" Only in {', '.join(knob.owners)}." if knob.owners else ""
        yield [f"`{key}`", f"`{value}`", f"{knob.note}{choices}{only}"]


def flag_rows() -> Iterator[list[str]]:
    from apelr_cli.main import COMMANDS

    for name in COMMANDS:
        command = getattr(importlib.import_module(f"apelr_cli.commands.{name}"), name)
        for full_name, each in leaf_commands(name, command):
            for parameter in each.params:
                if parameter.param_type_name == "option":
                    names = ", ".join(f"`{flag}`" for flag in parameter.opts)
                    yield [f"`{full_name}`", names, " ".join(parameter.help.split())]
                else:
                    yield [f"`{full_name}`", f"`{parameter.make_metavar(None)}`", "argument; see the command's help"]


def leaf_commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command, or of a group each command in it, under its full name."""
    below = getattr(command, "commands", {})
    yield from [(f"{name} {each}", below[each]) for each in below] if below else [(name, command)]


def source_rows() -> Iterator[list[str]]:
    from apelr_data import SOURCES

    for name, source in SOURCES.items():
        where = source.hub_id or ("no download" if source.offline else "`data.path`")
        yield [f"`{name}`", source.summary, source.size, source.licence, where]


def file_rows() -> Iterator[list[str]]:
    from apelr_cli.run_folder import OWN_FILES

    for name, content in OWN_FILES.items():
        yield [f"`{name}`", content]


def filled(text: str) -> str:
    """The page with every table put between its marks."""
    return replaced(text, tables(), ".ci/readme_tables.py")


def replaced(text: str, made: dict[str, str], script: str) -> str:
    """A page with these tables put between the marks that name the script."""
    for name, content in made.items():
        start, end = (mark.format(name=name, script=script) for mark in MARKS)
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        assert pattern.search(text), f"the page lacks the marks of {name}"
        text = pattern.sub(lambda _, new=f"{start}\n{content}\n{end}": new, text)
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
