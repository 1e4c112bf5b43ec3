"""The running Python's own documentation: help topics and docstrings, read as text and never imported."""

import ast
import sysconfig
import warnings
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

from apelr_data.config import Split
from apelr_data.errors import DataError
from apelr_data.sources.protocol import RawDocument

# Tests, other people's packages, and parts that Linux distributions ship apart or newer versions dropped.
SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "_bundled", "__pycache__"}
    | {"idlelib", "lib2to3", "turtledemo", "pydoc_data"}
)


class PythonDocsSource:
    """The help topics and the docstrings as one document each; equal texts appear once."""

    local = True

    def read(self, split: Split) -> Generator[RawDocument]:
        """Every document: a hash of its text decides the split. Raises DataError when nothing is found."""
        library = Path(sysconfig.get_paths()["stdlib"])
        for text in python_documents(library):
            yield RawDocument(text, by_hash=True)


@cache
def python_documents(library: Path) -> tuple[str, ...]:
    """Help topics by name, then docstrings by file and place, each text once.

    Parsing takes seconds, so the texts (about 2 MB) are kept. Raises DataError when the folder holds neither.
    """
    texts = [*_topics(library / "pydoc_data" / "topics.py"), *_docstrings(library)]
    if not texts:
        raise DataError(
            f"data.source python_docs finds no Python files in {str(library)!r}; use storyworld or text instead"
        )
    return tuple(dict.fromkeys(texts))


def _parse(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None when it is not there or not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some modules hold escapes that newer Pythons warn of
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _topics(path: Path) -> list[str]:
    """The texts of `topics = {...}`, sorted by topic."""
    tree = _parse(path)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(node.value)
            return [topics[name] for name in sorted(topics)]
    return []


def _docstrings(library: Path) -> Iterator[str]:
    """The docstrings of modules, classes and functions, files in sorted order."""
    for path in sorted(library.rglob("*.py")):
        folders = path.relative_to(library).parts[:-1]
        if SKIPPED_FOLDERS.isdisjoint(folders) and not any(part.startswith("config-") for part in folders):
            tree = _parse(path)
            for node in _documented(tree) if tree else ():
                text = ast.get_docstring(node)
                if text:
                    yield text


def _documented(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The module, classes and functions of a tree in the order of the source.

    Goes through statements alone, because most of a tree is expressions, which hold no docstring.
    """
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for statement in getattr(node, block, ()):
            yield from _documented(statement)
