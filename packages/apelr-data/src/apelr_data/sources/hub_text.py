"""Pure repairs of two corpora's text: wikitext's lines into articles, wiki40b's markers into blank lines."""

import ast
import re
from collections.abc import Iterable, Iterator

_WIKI40B_MARKER = re.compile(r"\s*_START_(?:ARTICLE|SECTION|PARAGRAPH)_\s*")


def is_article_heading(line: str) -> bool:
    """Whether a line of wikitext is a heading of level 1: ` = Title = `; level 2 is ` = = Title = = `."""
    text = line.strip()
    return len(text) > 4 and text.startswith("= ") and text.endswith(" =") and not text.startswith("= =")


def articles(lines: Iterable[str]) -> Iterator[str]:
    """Lines of wikitext -> articles, each from its level-1 heading up to the next one.

    A heading counts only after a blank line or at the start, because formulas may look like one. Blank lines at
    both ends of an article are left out; its other lines keep their spaces.
    """
    article: list[str] = []
    after_blank = True
    for line in lines:
        line = line.rstrip("\n")
        if after_blank and is_article_heading(line):
            yield from _joined(article)
            article = []
        article.append(line)
        after_blank = not line.strip()
    yield from _joined(article)


def _joined(lines: list[str]) -> Iterator[str]:
    """The article, unless there is nothing in it."""
    text = "\n".join(lines).strip("\n")
    if text:
        yield text + "\n"


def without_wiki40b_markers(text: str) -> str:
    """Undo a Python bytes literal if the text is one, then turn markers into blank lines and line ends."""
    if text.startswith(("b'", 'b"')):
        try:
            literal = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            literal = None  # a text that merely begins like a literal
        if isinstance(literal, bytes):
            text = literal.decode("utf-8", "surrogateescape")
    return _WIKI40B_MARKER.sub("\n\n", text).replace("_NEWLINE_", "\n").strip()
