"""`open_corpus`: a config's documents, cleaned, split, mixed and capped, and what was done to them."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from typing import Protocol, get_args

from apelr_data.config import DataConfig, Split
from apelr_data.errors import DataError
from apelr_data.mixture import interleave
from apelr_data.sources import Source
from apelr_data.sources.hub import HubSource
from apelr_data.sources.planted import PlantedText
from apelr_data.sources.protocol import PlannedDocument
from apelr_data.sources.python_docs import PythonDocsSource
from apelr_data.sources.stories import StoriesSource
from apelr_data.sources.text import TextSource
from apelr_data.splits import hash_limit, lowest_hash_limit, text_hash
from apelr_data.text_policy import CleanText, TextReport, clean_text


class Corpus(Protocol):
    """Documents of both splits, in the same order every time."""

    @property
    def name(self) -> str:
        """The name of the source; of a mixture the names of all, joined by " + "."""
        ...

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of one split, after cleaning and caps. Raises DataError when there is none."""
        ...

    def report(self, split: Split | None = None) -> TextReport:
        """What cleaning did to the documents read so far, of one split or of both."""
        ...

    def source_reports(self, split: Split) -> list[tuple[str, TextReport]]:
        """Each source's name and its part of the report; one entry where nothing is mixed."""
        ...

    def revisions(self) -> dict[str, str]:
        """The commit of each of the hub's datasets that documents have been read of, by its id."""
        ...

    def source_bits_per_byte(self, split: Split) -> float | None:
        """The source's own exact bits per byte where they are known, else None."""
        ...

    @property
    def plan_names(self) -> tuple[str, ...]:
        """The names of the gold plans; none where the source has no plans that are known."""
        ...

    def planned_documents(self, split: Split) -> Iterator[PlannedDocument]:
        """The documents of one split with their gold plans, before caps cut them. Raises DataError without plans."""
        ...


def open_corpus(config: DataConfig, *, seed: int) -> Corpus:
    """The corpus that `config` names; `seed` picks storyworld's stories and planted's text, and changes nothing else.

    Files are looked up here; the network is asked only when documents are read. Raises DataError.
    """
    sections = [f"data.sources[{i}]" for i in range(len(config.sources))] or ["data"]
    return _Corpus(config, [_OpenSource(*each, seed) for each in zip(sections, config.parts(), strict=True)])


def _open_source(section: str, config: DataConfig, seed: int) -> Source:
    """The source behind a name."""
    if config.source == "storyworld":
        return StoriesSource(config, seed)
    if config.source == "planted":
        return PlantedText(config, seed)
    if config.source == "python_docs":
        return PythonDocsSource()
    if config.source == "text":
        return TextSource(section, config)
    return HubSource(section, config)


class _OpenSource:
    """One source with the text policy and the split by hash behind it."""

    def __init__(self, section: str, config: DataConfig, seed: int) -> None:
        self.section = section
        self.config = config
        self.source = _open_source(section, config, seed)

    def read(self, split: Split) -> Generator[CleanText]:
        """The documents of one split, the dropped ones among them."""
        with closing(self.source.read(split)) as documents:
            for raw in documents:
                document = clean_text(raw.text, min_chars=self.config.min_chars)
                if not raw.by_hash or (text_hash(document.text) < self._hash_limit) == (split == "validation"):
                    yield document

    @cached_property
    def _hash_limit(self) -> float:
        """Held out are the documents whose hash is below this; of a local source always one, if there are two."""
        fraction = self.config.val_fraction
        if not self.source.local:
            return hash_limit(fraction)
        with closing(self.source.read("validation")) as documents:
            cleaned = ((raw.by_hash, clean_text(raw.text, min_chars=self.config.min_chars)) for raw in documents)
            # a document that is held out anyway counts as a hash below every limit
            hashes = (text_hash(document.text) if by_hash else -1 for by_hash, document in cleaned if document.kept)
            return lowest_hash_limit(hashes, fraction)

    def nothing_left(self, split: Split, report: TextReport) -> DataError:
        """The error for a split without documents, with what can be done."""
        config, section = self.config, self.section
        dropped = f"{report.dropped_empty} empty, {report.dropped_short} under data.min_chars {config.min_chars}"
        if config.val_path is not None:
            remedy = f"give other files in {section}.path and {section}.val_path"
        elif split == "validation":
            remedy = f"raise data.val_fraction (now {config.val_fraction:g})"
            remedy += {"text": f" or give {section}.val_path", "hf": f" or {section}.val_split"}.get(config.source, "")
        else:
            remedy = "give more text or lower data.min_chars and data.val_fraction"
        return DataError(f"{section}.source {config.source} leaves no {split} documents (dropped: {dropped}); {remedy}")


class _Corpus:
    """The documents of one source or of a mixture, up to the caps."""

    def __init__(self, config: DataConfig, sources: Sequence[_OpenSource]) -> None:
        self._config = config
        self._sources = sources
        self._weights = [each.weight for each in config.sources] or [1.0]
        self._reports: dict[Split, list[TextReport]] = {}

    @property
    def name(self) -> str:
        """The names of the sources."""
        return " + ".join(each.config.source for each in self._sources)

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of one split; each reading starts the split's report afresh."""
        if split not in get_args(Split):
            raise DataError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
        return self._read(split)

    def _read(self, split: Split) -> Iterator[str]:
        """Take the sources' documents in turn and stop at the caps."""
        examples_left, chars_left = self._config.max_examples(split), self._config.max_chars(split)
        reports = self._reports[split] = [TextReport()] * len(self._sources)
        capped = False
        with ExitStack() as stack:
            readers = [stack.enter_context(closing(each.read(split))) for each in self._sources]
            for number, (text, kept, counts) in interleave(readers, self._weights):
                if kept and chars_left is not None:
                    if len(text) > chars_left:
                        text, counts = _cut(text, chars_left, counts)
                        if text.isspace():
                            capped = True
                            break
                    chars_left -= len(text)
                reports[number] += counts
                if kept:
                    yield text
                    examples_left = None if examples_left is None else examples_left - 1
                if examples_left == 0 or chars_left == 0:
                    capped = True
                    break
        # a mixture ends with the first source that ends: one without documents leaves the later ones unread
        empty = [i for i, report in enumerate(reports) if report.documents == 0]
        if empty and (not capped or len(empty) == len(reports)):
            raise self._sources[empty[0]].nothing_left(split, reports[empty[0]])

    def report(self, split: Split | None = None) -> TextReport:
        """The counts of the latest reading of one split, or of the latest readings of both together."""
        if split is not None:
            return sum((report for _, report in self.source_reports(split)), TextReport())
        return self.report("train") + self.report("validation")

    def source_reports(self, split: Split) -> list[tuple[str, TextReport]]:
        """The name of each source and its counts of the latest reading of one split."""
        reports = self._reports.get(split, [TextReport()] * len(self._sources))
        return [(each.config.source, report) for each, report in zip(self._sources, reports, strict=True)]

    def revisions(self) -> dict[str, str]:
        """The commit of each of the hub's datasets that documents have been read of, by its id."""
        read = [each.source.revision for each in self._sources if isinstance(each.source, HubSource)]
        return {path: commit for path, commit in read if commit}

    def source_bits_per_byte(self, split: Split) -> float | None:
        """Storyworld and planted: exact bits of the stories or symbols that the caps leave, each whole; else None."""
        return self._planned.bits_per_byte(split) if self._planned else None

    @property
    def plan_names(self) -> tuple[str, ...]:
        """Storyworld's beats, the numbers of planted's plans; else none."""
        return self._planned.plan_names if self._planned else ()

    def planned_documents(self, split: Split) -> Iterator[PlannedDocument]:
        """The documents of one split with their gold plans, those that `documents` gives, but none is cut."""
        if self._planned is None:
            raise DataError(f"data.source {self.name} has no gold plans; storyworld and planted have")
        for document in self._planned.planned(split):
            if clean_text(document.text, min_chars=self._config.min_chars).kept:
                yield document

    @property
    def _planned(self) -> StoriesSource | PlantedText | None:
        """The source, where it is one whose plans are known."""
        source = self._sources[0].source
        return source if isinstance(source, StoriesSource | PlantedText) and len(self._sources) == 1 else None


def _cut(text: str, characters: int, counts: TextReport) -> tuple[str, TextReport]:
    """The first characters of a document, and its counts with the sizes put right."""
    cut = text[:characters]
    less = TextReport(characters=len(cut) - len(text), utf8_bytes=len(cut.encode()) - len(text.encode()))
    return cut, counts + less
