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
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

README = Path(__file__).resolve().parent.parent / "README.md"
MARKS = "<!-- {name}: made by .ci/readme_tables.py -->", "<!-- end of {name} -->"


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


def knobs(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, Any, str]]:
    """(dotted key, type, default, sentence) of every field, sections unfolded."""
    notes, hints = field_notes(kind), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        if dataclasses.is_dataclass(default):
            yield from knobs(type(default), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hints[field.name], default, notes[field.name]


def knob_rows() -> Iterator[list[str]]:
    from apelr_cli.run_config import RunConfig

    for key, hint, default, note in knobs(RunConfig):
        choices = f" One of {', '.join(map(str, get_args(hint)))}." if get_origin(hint) is Literal else ""
        value = yaml.safe_dump(list(default) if isinstance(default, tuple) else default, default_flow_style=True)
        yield [f"`{key}`", f"`{value.removesuffix('...' + chr(10)).strip()}`", f"{note}{choices}"]


def flag_rows() -> Iterator[list[str]]:
    from apelr_cli.main import COMMANDS

    for command in COMMANDS:
        module = importlib.import_module(f"apelr_cli.commands.{command}")
        for parameter in getattr(module, command).params:
            if parameter.param_type_name == "option":
                names = ", ".join(f"`{name}`" for name in parameter.opts)
                yield [f"`{command}`", names, " ".join(parameter.help.split())]
            else:
                yield [f"`{command}`", f"`{parameter.make_metavar(None)}`", "argument; see the command's help"]


def source_rows() -> Iterator[list[str]]:
    from apelr_data import SOURCES

    for name, source in SOURCES.items():
        yield [f"`{name}`", source.summary, source.size, source.licence, source.hub_id or "no download"]


def file_rows() -> Iterator[list[str]]:
    from apelr_cli.run_folder import OWN_FILES

    for name, content in OWN_FILES.items():
        yield [f"`{name}`", content]


def filled(text: str) -> str:
    """The page with every table put between its marks."""
    for name, content in tables().items():
        start, end = (mark.format(name=name) for mark in MARKS)
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        assert pattern.search(text), f"README.md lacks the marks of {name}"
        text = pattern.sub(lambda _, new=f"{start}\n{content}\n{end}": new, text)
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
