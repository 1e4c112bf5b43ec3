"""The entries of docs/api, made from the sources: signatures, docstrings, fields and methods of every public name.

A page is written by hand, with an example for each family of names; between its marks stand the entries of the names
that the mark lists. `python .ci/api_pages.py` rewrites them in place; api_test.py fails when they are out of date.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
from readme_tables import replaced

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "api"
SCRIPT = ".ci/api_pages.py"
PACKAGES = sorted(path.stem for path in FOLDER.glob("apelr_*.md"))  # a package within one may have a page of its own
LONGEST_LINE = 100


def load(package: str) -> griffe.Module:
    """A package as its sources have it, with all that it takes from other modules of its own."""
    sources = [str(path) for path in sorted(ROOT.glob("packages/*/src"))]
    return griffe.load(package, search_paths=sources, resolve_aliases=True)


def public_names(package: str) -> list[str]:
    """Its `__all__`, also where what it needs to be imported is not installed."""
    return [str(name) for name in load(package).exports or []]


def listed(page: str) -> list[str]:
    """What each mark of a page lists: names with a space between them."""
    return re.findall(rf"<!-- ([\w ]+): made by {re.escape(SCRIPT)} -->", page)


def filled(page: str, package: str) -> str:
    """The page with the entries of every mark's names put behind it."""
    module = load(package)
    made = {names: "\n\n".join(entry(module, name) for name in names.split()) for names in listed(page)}
    return replaced(page, made, SCRIPT) if made else page


def entry(module: griffe.Module, name: str) -> str:
    target = module.modules_collection[module.imports[name]]  # by its place: a module may have the same name
    if isinstance(target, griffe.Alias):
        target = target.final_target
    match target:
        case griffe.Class():
            parts = [*class_parts(target)]
        case griffe.Function():
            parts = [code(target.signature(name=name)), prose(target)]
        case _:
            value = str(target.value)
            parts = [code(f"{name} = {value if len(value) < 300 else '...'}"), prose(target)]
    return "\n\n".join([f"### `{name}`", *filter(None, parts)])


def class_parts(found: griffe.Class) -> Iterator[str]:
    bases = [str(base) for base in found.bases]
    head = f"class {found.name}" + (f"({', '.join(bases)})" if bases else "")
    start = found.members.get("__init__")
    if "dataclass" in found.labels or start is None:  # what it is made of are its fields, and they follow
        yield code(head)
        yield prose(found)
    else:
        yield code(f"{head}\n\n{wrapped(without_self(start).replace('__init__', found.name))}")
        yield prose(found)
        yield prose(start)
    yield "\n".join(field_lines(found))
    yield "\n".join(method_lines(found))


def without_self(method: griffe.Function) -> str:
    """The signature as a caller sees it."""
    return re.sub(r"\((self|cls)(, )?", "(", method.signature(), count=1)


def field_lines(found: griffe.Class) -> Iterator[str]:
    """A line for each annotated field, inherited ones first, as the sources have them."""
    for name, member in found.all_members.items():
        if not name.startswith("_") and member.is_attribute and "property" not in member.labels and member.annotation:
            value = f" = {member.value}" if member.value is not None else ""
            yield f"- `{name}: {member.annotation}{value}`" + said(member)


def method_lines(found: griffe.Class) -> Iterator[str]:
    for name, member in found.all_members.items():
        if name.startswith("_") or name == "rules":  # the rules are for reading configs, which report all that fail
            continue
        if member.is_function:
            yield f"- `.{without_self(member)}`" + said(member)
        elif "property" in member.labels:
            yield f"- `.{name}: {member.annotation}`, a property" + said(member)


def said(member: griffe.Object) -> str:
    """The member's docstring, set in under its line."""
    text = prose(member)
    return f"\\\n{text}".replace("\n", "\n  ").replace("\n  \n", "\n\n") if text else ""


def prose(found: griffe.Object) -> str:
    """The docstring, with what Markdown would take for markup outside of backticks escaped."""
    text = inspect.cleandoc(found.docstring.value) if found.docstring else ""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([*<])", r"\\\1", piece).replace("][", "] [") for piece in pieces[::2]]
    return "".join(pieces)


def code(text: str) -> str:
    return f"```text\n{wrapped(text)}\n```"


def wrapped(signature: str) -> str:
    """A signature on one line, or where that is long with a line for each parameter."""
    if len(signature) <= LONGEST_LINE or "\n" in signature or "(" not in signature:
        return signature
    start, inner, end = re.fullmatch(r"(.*?\()(.*)(\)[^)]*)", signature, re.DOTALL).groups()
    parts, depth = [""], 0
    for letter in inner:
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return "\n".join([start, *(f"    {part.strip()}," for part in parts), end])


if __name__ == "__main__":
    for each in PACKAGES:
        path = FOLDER / f"{each}.md"
        path.write_text(filled(path.read_text(encoding="utf-8"), each), encoding="utf-8", newline="\n")
