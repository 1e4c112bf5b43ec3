"""The table of sources, for people and for programs."""

import json
import textwrap
from collections.abc import Iterator

from apelr_data import SOURCES, SourceInfo

__all__ = ["source_lines"]

WIDTH = 100


def source_lines(*, as_json: bool) -> Iterator[str]:
    """Every source: a JSON object on a line, or a paragraph."""
    for info in SOURCES.values():
        yield from [json.dumps(_plain(info), ensure_ascii=False)] if as_json else _paragraph(info)


def _plain(info: SourceInfo) -> dict[str, object]:
    return {
        "source": info.name,
        "summary": info.summary,
        "size": info.size,
        "licence": info.licence,
        "splits": info.splits,
        "reading": info.reading,
        "streaming": info.streaming,
        "hub_id": info.hub_id,
        "hub_config": info.hub_config,
    }


def _paragraph(info: SourceInfo) -> Iterator[str]:
    yield info.name
    where = f"{info.reading}: {info.hub_id}, {info.hub_config}" if info.hub_id else info.reading
    facts = (("size", info.size), ("licence", info.licence), ("splits", info.splits), ("read", where))
    for head, text in (("", info.summary), *((f"{name:<9}", value) for name, value in facts)):
        yield from textwrap.wrap(text, WIDTH, initial_indent=f"  {head}", subsequent_indent=" " * (2 + len(head)))
