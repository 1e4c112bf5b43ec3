"""Text -> tokenizer -> both splits as ids, in memory or through the token cache; nothing here needs torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from apelr_cli.memory_check import check_text_fits_memory
from apelr_data import (
    Corpus,
    DataConfig,
    Split,
    TextReport,
    TokenCache,
    TokenStream,
    open_corpus,
    pack_documents,
)
from apelr_tokenizers import Tokenizer, TokenizerConfig, fit_tokenizer

__all__ = ["PreparedText", "Progress", "prepare_text"]

SPLITS: tuple[Split, ...] = get_args(Split)

Progress = Callable[[Split, int, int, int], None]
"""Told the split that is written into the cache, and how many documents, ids and bytes of it are done."""


@dataclass(frozen=True)
class PreparedText:
    """A corpus and its ids."""

    tokenizer: Tokenizer
    corpus: Corpus
    streams: Mapping[Split, TokenStream]
    reports: Mapping[Split, TextReport]
    """What the odd-text policy did when the text was read."""
    cache: Path | None
    """The folder the ids lie in; None when they are in memory."""


def prepare_text(
    data: DataConfig,
    tokenizer_config: TokenizerConfig,
    *,
    seed: int,
    tokenizer: Tokenizer | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> PreparedText:
    """Open the corpus, fit the tokenizer on its training text unless one is given, and turn both splits into ids.

    With `data.token_cache` the tokenizer and the ids are taken from the cache or written into it, and memory does
    not grow with the corpus; without it a corpus known to be too large is refused. Raises DataError and
    TokenizerError (ValueErrors with one line).
    """
    corpus = open_corpus(data, seed=seed)
    if data.token_cache:
        cache = TokenCache(data, tokenizer_config, seed=seed, say=say)
        tokenizer = tokenizer or cache.tokenizer(corpus)
        cached = cache.tokens(tokenizer, corpus, progress)
        return PreparedText(tokenizer, corpus, cached.streams, cached.reports, cached.folder)
    check_text_fits_memory(data, say)
    tokenizer = tokenizer or fit_tokenizer(tokenizer_config, corpus.documents("train"))
    streams = {}
    for split in SPLITS:
        streams[split] = pack_documents(corpus.documents(split), tokenizer, max_tokens=data.max_tokens(split))
    return PreparedText(tokenizer, corpus, streams, {split: corpus.report(split) for split in SPLITS}, None)
