"""Corpora of the Hugging Face hub as sources."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

from apelr_data.config import DataConfig, Split
from apelr_data.errors import DataError
from apelr_data.sources.hub_dataset import hub_dataset
from apelr_data.sources.hub_errors import expected_errors, explain
from apelr_data.sources.hub_probe import require_hub
from apelr_data.sources.hub_quiet import quiet
from apelr_data.sources.hub_rows import HubRows
from apelr_data.sources.hub_text import articles, without_wiki40b_markers
from apelr_data.sources.protocol import RawDocument


def _without_markers(texts: Iterable[str]) -> Iterator[str]:
    return map(without_wiki40b_markers, texts)


REPAIRS: Mapping[str, Callable[[Iterable[str]], Iterator[str]]] = {
    "wikitext103": articles,
    "wikitext2": articles,
    "wiki40b_en": _without_markers,
}
"""How the rows of a corpus become documents, where they are none yet."""


class HubSource:
    """A dataset of the hub; nothing is asked of the network before the first document is read."""

    def __init__(self, section: str, config: DataConfig) -> None:
        """`section` is where the keys stand, for messages. Raises DataError for a path that can be no id."""
        self._dataset = hub_dataset(section, config)
        path = self._dataset.path
        if not self._dataset.local and (path.count("/") > 1 or path.startswith((".", "/"))):
            self._dataset.refuse("path", f"{path!r} is no folder here; give a folder or a dataset's id, as owner/name")
        self._rows = HubRows(self._dataset)
        self._found = False

    @property
    def local(self) -> bool:
        """False for a stream; a download lies on this machine when it is read."""
        return self._dataset.local or not self._dataset.streaming

    @property
    def revision(self) -> tuple[str, str | None]:
        """The dataset's id, and the commit of it that is read, once it is known."""
        return self._dataset.path, self._rows.commit

    def read(self, split: Split) -> Generator[RawDocument]:
        """The documents in the hub's order. Raises DataError when the hub or the dataset cannot be read."""
        texts: Iterable[str] = self._texts(self._dataset.split(split))
        repair = REPAIRS.get(self._dataset.source)
        for text in repair(texts) if repair else texts:
            yield RawDocument(text, by_hash=self._dataset.val_split is None)

    def _texts(self, split: str) -> Iterator[str]:
        """The rows of one of the hub's splits, errors as one line."""
        dataset = self._dataset
        if not (self._found or dataset.local):
            require_hub(f"{dataset.section}.source {dataset.source}", dataset.path)
            self._found = True
        rows = 0
        try:
            for text in self._rows.texts(split):
                yield text
                rows += 1
        except DataError:
            raise
        except expected_errors() as error:
            with quiet():
                explain(dataset, rows, error)
