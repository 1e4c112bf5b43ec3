"""Fitting a tokenizer on an iterator of texts."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import models, trainers

from apelr_tokenizers.bpe import BpeTokenizer
from apelr_tokenizers.bpe_definition import BpeDefinition, set_pipeline
from apelr_tokenizers.byte_symbols import symbol_of_byte
from apelr_tokenizers.char import CharTokenizer
from apelr_tokenizers.config import TokenizerConfig
from apelr_tokenizers.errors import TokenizerError, require_scalar_values, shown
from apelr_tokenizers.guard import library_errors
from apelr_tokenizers.identity import IdentityTokenizer
from apelr_tokenizers.protocol import Tokenizer

SLICE_CHARS = 512
"""Longer texts are cut before a space where possible: one huge line would be one huge word to BPE."""
SLICES_PER_BATCH = 256


def fit_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Fit the tokenizer that `config` describes, reading at most `fit_max_chars` from `texts`.

    The same texts give the same tokenizer; `identity` reads none of them. Memory follows the number of
    different words (BPE) or characters, except for BPE without `byte_level`, which holds the text that is
    read. Raises TokenizerError for texts without characters, and passes on what `texts` raises.
    """
    source = _BoundedTexts(texts, config.fit_max_chars)
    if config.type == "identity":
        return IdentityTokenizer(config.special_tokens, config.vocab_size)
    if config.type == "char":
        return CharTokenizer(config.special_tokens, _frequent_characters(config, source))
    return BpeTokenizer(_fit_bpe(config, source))


class _BoundedTexts:
    """Iterates over texts up to a number of characters; remembers what was read and what went wrong."""

    def __init__(self, texts: Iterable[str], max_chars: int) -> None:
        if isinstance(texts, str):
            raise TokenizerError("texts must be an iterable of texts, got one string")
        self._texts = texts
        self._max_chars = max_chars
        self.chars = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        with ExitStack() as stack:
            stack.push(self._note)
            for text in self._texts:
                if not isinstance(text, str):
                    raise TokenizerError(f"texts must be strings, got {shown(text)}")
                part = text[: self._max_chars - self.chars]
                require_scalar_values(part)
                self.chars += len(part)
                yield part
                if self.chars >= self._max_chars:
                    return

    def _note(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, Exception):
            self.error = error

    def batches(self) -> Iterator[list[str]]:
        """Yield lists of slices of the texts."""
        batch: list[str] = []
        for text in self:
            for part in _slices(text):
                batch.append(part)
                if len(batch) == SLICES_PER_BATCH:
                    yield batch
                    batch = []
        yield batch


def _slices(text: str) -> Iterator[str]:
    """Cut `text` into parts of at most SLICE_CHARS, before a space where there is one."""
    start = 0
    while len(text) - start > SLICE_CHARS:
        space = text.rfind(" ", start + 1, start + SLICE_CHARS + 1)
        end = space if space > 0 else start + SLICE_CHARS
        yield text[start:end]
        start = end
    yield text[start:]


def _frequent_characters(config: TokenizerConfig, texts: Iterable[str]) -> tuple[str, ...]:
    """Return the characters to know, sorted: the most frequent, ties by code point."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    if not counts:
        raise TokenizerError("cannot fit a tokenizer: the texts hold no characters")
    frequent = [character for character in sorted(counts) if counts[character] >= config.min_frequency]
    if not frequent:
        raise TokenizerError(f"cannot fit a tokenizer: no character occurs {config.min_frequency} times or more")
    frequent.sort(key=counts.__getitem__, reverse=True)
    return tuple(sorted(frequent[: config.vocab_size - len(config.special_tokens)]))


def _fit_bpe(config: TokenizerConfig, source: _BoundedTexts) -> BpeDefinition:
    unicode_form = () if config.normalizer == "none" else (config.normalizer.upper(),)
    normalizers = (*unicode_form, *(("Lowercase",) if config.lowercase else ()))
    library = LibraryTokenizer(models.BPE())
    set_pipeline(library, byte_level=config.byte_level, names=normalizers)
    batches = source.batches()
    alphabet = symbol_of_byte()
    if not config.byte_level:
        # The library breaks ties between equally frequent characters at random, so the choice is made here.
        held = list(batches)
        normalize = library.normalizer.normalize_str if library.normalizer else str
        alphabet = _frequent_characters(config, (normalize(part) for batch in held for part in batch))
        batches = iter(held)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(config.special_tokens),
        min_frequency=config.min_frequency,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    try:
        with library_errors("fit the tokenizer"):
            library.train_from_iterator(batches, trainer=trainer)
    except TokenizerError:
        if source.error is not None:
            raise source.error from None
        raise
    if not source.chars:
        raise TokenizerError("cannot fit a tokenizer: the texts hold no characters")
    merges = _merges_apart_from(config.special_tokens, library, alphabet)
    learned = dict.fromkeys((*sorted(alphabet), *(first + second for first, second in merges)))
    return BpeDefinition(
        tokens=(*config.special_tokens, *learned),
        special_ids=tuple(range(len(config.special_tokens))),
        merges=merges,
        byte_level=config.byte_level,
        normalizers=normalizers,
    )


def _merges_apart_from(
    special_tokens: tuple[str, ...], library: LibraryTokenizer, alphabet: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Return the merges learned, without those that spell a special token or build on such a merge."""
    known = set(alphabet)
    merges = []
    for first, second in json.loads(library.to_str())["model"]["merges"]:
        if first in known and second in known and first + second not in special_tokens:
            known.add(first + second)
            merges.append((first, second))
    return tuple(merges)
