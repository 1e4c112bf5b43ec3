"""`open_corpus`: a config's documents, cleaned, split and capped, and what was done to them."""

from collections.abc import Iterator
from typing import Protocol, get_args

from apelr_data.config import DataConfig, Split
from apelr_data.errors import DataError
from apelr_data.sources import SOURCES, Source
from apelr_data.sources.hub import HubSource
from apelr_data.sources.python_docs import PythonDocsSource
from apelr_data.sources.stories import StoriesSource
from apelr_data.sources.text import TextSource
from apelr_data.splits import hash_split
from apelr_data.text_policy import TextReport, clean_text


class Corpus(Protocol):
    """Documents of both splits, in the same order every time."""

    @property
    def name(self) -> str:
        """The name of the source."""
        ...

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of one split, after cleaning and caps. Raises DataError when there is none."""
        ...

    def report(self, split: Split | None = None) -> TextReport:
        """What cleaning did to the documents read so far, of one split or of both."""
        ...

    def source_bits_per_byte(self, split: Split) -> float | None:
        """The source's own exact bits per byte where they are known, else None."""
        ...


def open_corpus(config: DataConfig, *, seed: int) -> Corpus:
    """The corpus that `config` names; `seed` picks storyworld's stories and changes nothing else.

    Files are looked up here; the network is asked only when documents are read. Raises DataError.
    """
    return _SourceCorpus(config, _open_source(config, seed))


def _open_source(config: DataConfig, seed: int) -> Source:
    """The source behind a name."""
    if config.source == "storyworld":
        return StoriesSource(config, seed)
    if config.source == "python_docs":
        return PythonDocsSource()
    if config.source == "text":
        return TextSource(config)
    return HubSource(SOURCES[config.source])


class _SourceCorpus:
    """A source with the text policy, the split by hash and the caps put behind it."""

    def __init__(self, config: DataConfig, source: Source) -> None:
        self._config = config
        self._source = source
        self._reports: dict[Split, TextReport] = {}

    @property
    def name(self) -> str:
        """The name of the source."""
        return self._config.source

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of one split; each reading starts the split's report afresh."""
        if split not in get_args(Split):
            raise DataError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
        return self._read(split)

    def _read(self, split: Split) -> Iterator[str]:
        """Clean, choose by hash where the source leaves that open, and stop at the caps."""
        config = self._config
        most_examples, chars_left = config.max_examples(split), config.max_chars(split)
        report = self._reports[split] = TextReport()
        for raw in self._source.read(split):
            text, kept, counts = clean_text(raw.text, min_chars=config.min_chars)
            if raw.by_hash and hash_split(text, config.val_fraction) != split:
                continue
            if kept and chars_left is not None:
                if len(text) > chars_left:
                    text, counts = _cut(text, chars_left, counts)
                    if text.isspace():
                        break
                chars_left -= len(text)
            report = self._reports[split] = report + counts
            if kept:
                yield text
            if report.documents == most_examples or chars_left == 0:
                break
        if report.documents == 0:
            raise DataError(self._nothing_left(split, report))

    def _nothing_left(self, split: Split, report: TextReport) -> str:
        """The message for a split without documents, with what can be done."""
        config = self._config
        dropped = f"{report.dropped_empty} empty, {report.dropped_short} under data.min_chars {config.min_chars}"
        if config.val_path is not None:
            remedy = "give other files in data.path and data.val_path"
        elif split == "validation":
            remedy = f"raise data.val_fraction (now {config.val_fraction:g})"
            remedy += " or give data.val_path" if config.source == "text" else ""
        else:
            remedy = "give more text or lower data.min_chars and data.val_fraction"
        return f"data.source {config.source} leaves no {split} documents (dropped: {dropped}); {remedy}"

    def report(self, split: Split | None = None) -> TextReport:
        """The counts of the latest reading of one split, or of the latest readings of both together."""
        if split is not None:
            return self._reports.get(split, TextReport())
        return self.report("train") + self.report("validation")

    def source_bits_per_byte(self, split: Split) -> float | None:
        """Storyworld: exact bits of the stories that the caps leave, each a whole one, by their bytes; else None."""
        return self._source.bits_per_byte(split) if isinstance(self._source, StoriesSource) else None


def _cut(text: str, characters: int, counts: TextReport) -> tuple[str, TextReport]:
    """The first characters of a document, and its counts with the sizes put right."""
    cut = text[:characters]
    less = TextReport(characters=len(cut) - len(text), utf8_bytes=len(cut.encode()) - len(text.encode()))
    return cut, counts + less
