"""`apelr data prepare`: the token cache of a config, found or written, and what is in it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from apelr_cli.packing_progress import packing_progress
from apelr_cli.text_sections import TextSections
from apelr_data import CachedTokens, TokenCache, open_corpus
from apelr_tokenizers import Tokenizer

__all__ = ["PreparedCache", "prepare_cache", "prepared_lines"]

SIZES = ("documents", "characters", "utf8_bytes")
"""Counts of a report that are no remarks on odd text."""


@dataclass(frozen=True)
class PreparedCache:
    """A token cache whose every file is as it was written."""

    tokenizer: Tokenizer
    tokens: CachedTokens
    trained_from: bool
    """Whether a run of the same config trains from it."""


def prepare_cache(sections: TextSections, *, quiet: bool) -> PreparedCache:
    """Fit the tokenizer and write the cache, or check the one that is there. Raises DataError and TokenizerError."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        if not quiet:
            console.print(Text(line))

    corpus = open_corpus(sections.data, seed=sections.seed)
    cache = TokenCache(sections.data, sections.tokenizer, seed=sections.seed, say=say)
    tokenizer = cache.tokenizer(corpus)
    with packing_progress(sections.data, console, quiet=quiet) as progress:
        tokens = cache.tokens(tokenizer, corpus, progress)
    if tokens.reused:
        say(f"the token cache {tokens.folder} is there; comparing its checksums")
        tokens.check()
    return PreparedCache(tokenizer, tokens, sections.data.token_cache)


def prepared_lines(prepared: PreparedCache, *, as_json: bool) -> Iterator[str]:
    """What is in the cache: one JSON object, or some lines of words."""
    plain = _plain(prepared)
    yield from [json.dumps(plain, ensure_ascii=False)] if as_json else _words(prepared, plain)


def _plain(prepared: PreparedCache) -> dict[str, Any]:
    tokens = prepared.tokens
    return {
        "cache": str(tokens.folder),
        "reused": tokens.reused,
        "revisions": tokens.revisions,
        "bytes_on_disk": sum(file.stat().st_size for file in tokens.folder.iterdir()),
        "tokenizer": {"vocab_size": prepared.tokenizer.vocab_size, "fingerprint": prepared.tokenizer.fingerprint},
        "splits": {
            split: {
                "documents": stream.documents,
                "tokens": len(stream.ids),
                "text_bytes": stream.text_bytes,
                "unknown": stream.unknown,
                "report": asdict(tokens.reports[split]),
            }
            for split, stream in tokens.streams.items()
        },
    }


def _words(prepared: PreparedCache, plain: Mapping[str, Any]) -> Iterator[str]:
    tokenizer = plain["tokenizer"]
    yield f"tokenizer   {tokenizer['vocab_size']:,} ids, fingerprint {tokenizer['fingerprint'][:16]}"
    for split, counts in plain["splits"].items():
        line = f"{counts['documents']:,} documents, {counts['tokens']:,} tokens, {counts['text_bytes']:,} bytes of text"
        odd = {"unknown characters": counts["unknown"], **counts["report"]}
        remarks = [f"{count:,} {name.replace('_', ' ')}" for name, count in odd.items() if count and name not in SIZES]
        yield f"{split:<10}  {', '.join([line, *remarks])}"
    state = "was there, every checksum is right" if plain["reused"] else "written"
    yield f"cache       {plain['cache']}: {plain['bytes_on_disk'] / 1e6:,.1f} MB, {state}"
    root = prepared.tokens.folder.parent
    entries = [each for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")]
    if len(entries) > 1:
        size = sum(file.stat().st_size for each in entries for file in each.iterdir())
        total = f"{len(entries)} caches in {root}: {size / 1e6:,.1f} MB"
        yield f"disk        {total}; remove by hand those that no run needs"
    if not prepared.trained_from:
        yield "to train from it, set data.token_cache true"
