"""The Markdown pages: links and anchors resolve, code blocks run or parse, `apelr` lines name real options.

Python blocks of a page run in order, in one namespace and one temporary folder. A shell block whose fence
reads `bash run` or `console run` runs there too; in the others each `apelr` line is put to the command's
parser. What a `console run` block shows below its commands is compared with what they print (transcript.py). A page
with the comment `<!-- needs NAME -->` runs where that module is, one with `<!-- takes minutes -->` only where
APELR_LONG_PAGES is set, as `nox -s tutorial` does. Pages on the network are not visited.
"""

import functools
import importlib.metadata
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
import transcript
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ["*.md", "docs/**/*.md", "configs/*.md", "runs/README.md", "packages/*/README.md", ".github/*.md"]
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
SHELLS = {"bash", "console", "powershell"}
PARSERS = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
UNCHECKED = {"text", "mermaid"}
SECONDS = 900
NOX_SESSIONS = set(re.findall(r"@nox\.session\n(?:@.*\n)*def (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8")))

each_page = pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])


@functools.cache
def tokens(page: Path) -> list[Token]:
    """Parse a page; the parts of each line of text follow the line's own token."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [token for block in blocks for token in [block, *(block.children or [])]]


def fences(page: Path) -> Iterator[tuple[int, list[str], str]]:
    """Yield the line, the words after the fence and the content of each fenced block."""
    for token in tokens(page):
        if token.type == "fence":
            yield token.map[0] + 1, token.info.split(), token.content


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors that a repository page offers: one for each heading, repeated ones numbered."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for opening, line in itertools.pairwise(tokens(page)):
        if opening.type == "heading_open":
            text = "".join(part.content for part in line.children)
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        if token.type in {"link_open", "image"}:
            yield str(token.attrs.get("href") or token.attrs.get("src"))
        elif token.type in {"html_inline", "html_block"}:
            yield from re.findall(r"""(?:href|src)=["']([^"']*)["']""", token.content)


def broken(page: Path, link: str) -> bool:
    """Tell whether a link leads nowhere; of a network address only the form is looked at."""
    parts = urlsplit(link)
    if parts.scheme:
        return parts.scheme not in {"http", "https"} or "." not in parts.netloc
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return True
    return bool(parts.fragment) and (target.suffix != ".md" or parts.fragment not in anchors(target))


@each_page
def test_links_resolve(page: Path) -> None:
    assert not [link for link in links(page) if broken(page, link)]
    undefined = [token.content for token in tokens(page) if token.type == "text" and "][" in token.content]
    assert not undefined, "a reference without a definition"


@each_page
def test_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in re.findall(r"<!-- needs (\w+) -->", page.read_text(encoding="utf-8")):
        pytest.importorskip(needed, reason=f"its extra, with {needed}, is not installed")
    if "<!-- takes minutes -->" in page.read_text(encoding="utf-8") and "APELR_LONG_PAGES" not in os.environ:
        pytest.skip("takes minutes: APELR_LONG_PAGES is not set")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / ".ci").symlink_to(ROOT / ".ci")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, words, content in fences(page):
        if words == ["python"]:
            exec(compile("\n" * line + content, page, "exec"), namespace)  # noqa: S102 - the pages are our own
        elif words == ["console", "run"]:
            for command in transcript.commands(content):
                sys.stdout.write(f"$ {command.text}\n{transcript.play(command, SECONDS)}")
        elif words[1:] == ["run"]:
            script = "\n".join(shell_commands(words[0], content))
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], timeout=SECONDS, check=False)
            assert done.returncode == 0, f"{page.name}:{line} failed"


@each_page
def test_blocks_parse(page: Path) -> None:
    for line, words, content in fences(page):
        place = f"{page.name}:{line}"
        language = words[0] if words else ""
        assert language in {"python", *SHELLS, *PARSERS, *UNCHECKED}, f"{place}: {language!r} is not checked"
        assert words[1:] in ([], ["run"]), f"{place}: {words} is neither a language nor one to run"
        if language in PARSERS:
            PARSERS[language](content)
        elif language in SHELLS:
            for command in shell_commands(language, content):
                check_command(command, place)


def shell_commands(shell: str, content: str) -> list[str]:
    """The commands of a block, continued lines joined; of a console block the lines after `$ `."""
    joined = re.sub(r"`\n\s*" if shell == "powershell" else r"\\\n\s*", "", content)
    lines = [line for line in joined.splitlines() if line.strip()]
    return [line[2:] for line in lines if line.startswith("$ ")] if shell == "console" else lines


def check_command(command: str, place: str) -> None:
    """Split a line of a shell at its operators and check every `apelr` and `nox -s` in it."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not word or not set(word) <= set("();<>|&"):
            if words or not re.fullmatch(r"\w+=.*", word):  # variables may stand before a command
                words.append(word)
            continue
        if words[:1] == ["apelr"]:
            check_apelr(words[1:], f"{place}: {command}")
        elif words[:2] == ["nox", "-s"]:
            sessions = itertools.takewhile(lambda name: not name.startswith("-"), words[2:])
            assert {name.partition("(")[0] for name in sessions} <= NOX_SESSIONS, f"{place}: {command}"
        words = []


def check_apelr(arguments: list[str], place: str) -> None:
    """Find the command that the arguments name; check the rest of them and that named configs exist."""
    assert all((ROOT / word).exists() for word in arguments if word.startswith("configs/")), place
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="apelr")
    command = entry.load()
    context = click.Context(command, info_name="apelr")
    try:
        while isinstance(command, click.Group):
            _, arguments, _ = command.make_parser(context).parse_args(arguments)
            if not arguments:
                return
            name, command, arguments = command.resolve_command(context, arguments)
            context = click.Context(command, info_name=name, parent=context)
        check_arguments(command, context, arguments)
    except click.UsageError as error:
        pytest.fail(f"{place}\n{error.format_message()}", pytrace=False)


def check_arguments(command: click.Command, context: click.Context, arguments: list[str]) -> None:
    """Raise UsageError for an unknown option, a missing one or a value of the wrong type; open no file."""
    given, left, _ = command.make_parser(context).parse_args(arguments)
    if left:
        raise click.UsageError(f"one argument too many: {left}")
    for parameter in command.get_params(context):
        value = given.get(parameter.name)
        if parameter.required and value is None:
            raise click.MissingParameter(ctx=context, param=parameter)
        if not isinstance(parameter.type, click.Path | click.File):
            parameter.type_cast_value(context, value)
