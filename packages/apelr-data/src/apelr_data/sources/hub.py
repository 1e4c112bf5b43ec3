"""The named corpora of the Hugging Face hub through `datasets`, which is imported only when one is read."""

import http.client
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from apelr_data.config import Split
from apelr_data.errors import DataError, one_line
from apelr_data.sources.hub_text import articles, without_wiki40b_markers
from apelr_data.sources.protocol import RawDocument
from apelr_data.sources.registry import OFFLINE_SOURCES, SourceInfo

TEXT_COLUMN = "text"
PROBE_SECONDS = 4.0


class HubSource:
    """One named corpus; nothing is asked of the network before the first document is read."""

    def __init__(self, info: SourceInfo) -> None:
        """The entry of the table of sources says which dataset, configuration and splits."""
        self._info = info

    def read(self, split: Split) -> Iterator[RawDocument]:
        """The documents in the hub's order. Raises DataError when the hub or the dataset cannot be read."""
        held_out = self._info.hub_validation
        hub_split = held_out if held_out and split == "validation" else "train"
        texts: Iterable[str] = _column(self._info, hub_split)
        if self._info.name in ("wikitext103", "wikitext2"):
            texts = articles(texts)
        elif self._info.name == "wiki40b_en":
            texts = (without_wiki40b_markers(text) for text in texts)
        for text in texts:
            yield RawDocument(text, by_hash=held_out is None)


def _column(info: SourceInfo, hub_split: str) -> Iterator[str]:
    """The text column of one split, row by row; a row without text is an empty document."""
    require_hub(info)
    import datasets

    with _named_errors(info):
        rows: Any = datasets.load_dataset(info.hub_id, info.hub_config, split=hub_split, streaming=info.streaming)
        columns = rows.column_names
        if columns is not None and TEXT_COLUMN not in columns:
            raise DataError(f"data.source {info.name}: no column {TEXT_COLUMN!r}; there is {', '.join(columns)}")
        # the other columns may be costly to decode, such as dates
        for row in rows.select_columns([TEXT_COLUMN]):
            yield row[TEXT_COLUMN] or ""


@contextmanager
def _named_errors(info: SourceInfo) -> Iterator[None]:
    """Turn the library's errors, which list what there is, into one line that names the source."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    # the bases of HfHubHTTPError hold the base error of whichever HTTP client the library uses
    expected = (DatasetsError, OSError, ValueError, RuntimeError, KeyError, *HfHubHTTPError.__bases__)
    try:
        yield
    except DataError:
        raise
    except expected as error:
        cause = one_line(error) or type(error).__name__
        raise DataError(f"data.source {info.name} ({info.hub_id}, {info.hub_config}): {cause}") from error


def require_hub(info: SourceInfo) -> None:
    """Ask once, for `PROBE_SECONDS` at most, whether the hub answers; the library itself tries for 23 s.

    Nothing is asked when the library is set to work offline: then it reads its cache. Raises DataError.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    failures = ["no answer in time"]

    def probe() -> None:
        failure = _failure_to_answer(f"{constants.ENDPOINT}/datasets/{info.hub_id}/resolve/main/README.md")
        failures[:] = [failure] if failure else []

    # a thread, because looking up a host name has no time limit of its own
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if failures:
        raise DataError(
            f"data.source {info.name}: the hub at {constants.ENDPOINT} cannot be reached ({failures[0]}); "
            f"use one of {', '.join(OFFLINE_SOURCES)}, or set HF_HUB_OFFLINE=1 to read what is in the cache"
        )


def _failure_to_answer(url: str) -> str | None:
    """Why a server gives no answer; None for any answer, refusals included, that is no server failure."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"it answers {error.code}" if error.code >= 500 else None
    except urllib.error.URLError as error:
        # the library brings its own certificates, so their failure here says nothing
        return None if isinstance(error.reason, ssl.SSLCertVerificationError) else one_line(error.reason)
    except (OSError, http.client.HTTPException) as error:
        return one_line(error) or type(error).__name__
