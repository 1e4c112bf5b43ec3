"""The errors of the hub's libraries as one line that says what there is instead."""

import errno
import http.client
import lzma
import socket
import ssl
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from apelr_data.errors import DataError, one_line
from apelr_data.sources.hub_dataset import HubDataset
from apelr_data.sources.hub_probe import unreachable
from apelr_data.sources.nearest import listed, nearest_first

SUGGESTIONS = 20
NOT_REACHED = ("Couldn't reach", "on the Hugging Face Hub either")
"""Words of the library's where neither the hub nor what is on this machine gave anything; it may hide the cause."""
DAMAGED_FILE_ERRORS = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What the standard library raises for a compressed file that ends early or is damaged, beside OSError."""
NETWORK_ERRORS = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, http.client.HTTPException)
NETWORK_NUMBERS = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
CUT_OFF = "Consistency check failed"
"""How the library's error begins, a plain OSError, where it got less of a file than was announced."""
PASSING_STATUS = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)


def expected_errors() -> tuple[type[BaseException], ...]:
    """What reading from the hub may raise."""
    from datasets.exceptions import DatasetsError
    from pyarrow.lib import ArrowException

    return (
        *(DatasetsError, ArrowException, ValueError, RuntimeError, KeyError, OSError),
        *(*DAMAGED_FILE_ERRORS, *_client_errors()),
    )


def explain(dataset: HubDataset, rows: int, error: BaseException) -> NoReturn:
    """Raise the DataError for an error that came after `rows` rows; asks the hub what there is instead."""
    from datasets.exceptions import DatasetNotFoundError

    if isinstance(error, DatasetNotFoundError):
        _explain_not_found(dataset, error)
    where = f"{dataset.section}.source {dataset.source} ({dataset.described})"
    if rows and is_lost_connection(error):
        raise DataError(
            f"{where}: the connection was lost after {rows} rows and did not come back ({_cause(error)}); "
            f"run again, or set {dataset.section}.streaming to false"
        ) from error
    if not dataset.local and _hub_not_reached(error):
        reason = _cause(_beginning(error))
        raise unreachable(f"{dataset.section}.source {dataset.source}", dataset.path, reason) from error
    if isinstance(error.__cause__, StopIteration):
        raise DataError(f"{where}: the data files hold no rows") from error
    if isinstance(error, ValueError):
        _explain_configuration(dataset)
    raise DataError(f"{where}: {_cause(error)}") from error


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error comes of the network, so that another try may help: not a full disk or a denied permission."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    errors = list(_chain(error))
    if any(isinstance(each, OfflineModeIsEnabled) for each in errors):
        return False
    statuses = [status for each in errors if (status := _status(each)) is not None]
    if statuses:
        return any(status >= 500 or status in PASSING_STATUS for status in statuses)
    network = (*NETWORK_ERRORS, LocalEntryNotFoundError, *_client_errors())
    return any(
        isinstance(each, network)
        or (isinstance(each, OSError) and (each.errno in NETWORK_NUMBERS or str(each).startswith(CUT_OFF)))
        for each in errors
    )


def _client_errors() -> tuple[type[BaseException], ...]:
    """The base error of whichever HTTP client the library uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(
        base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception) and not issubclass(OSError, base)
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, its cause, the cause's cause ..."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__


def _beginning(error: BaseException) -> BaseException:
    """The error that all began with, also where the library hides it behind one of its own."""
    while behind := error.__cause__ or error.__context__:
        error = behind
    return error


def _hub_not_reached(error: BaseException) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    missing = (LocalEntryNotFoundError, OfflineModeIsEnabled)
    return any(words in str(error) for words in NOT_REACHED) or any(isinstance(each, missing) for each in _chain(error))


def _cause(error: BaseException) -> str:
    """What went wrong, in one line; where the library only says where, what lies behind it."""
    from datasets.exceptions import DatasetGenerationError

    if isinstance(error, DatasetGenerationError):
        error = list(_chain(error))[-1]
    return one_line(error) or type(error).__name__


def _explain_not_found(dataset: HubDataset, error: BaseException) -> NoReturn:
    """Refuse a revision or a dataset that is not there or not for everybody."""
    from huggingface_hub import HfApi

    api, path = HfApi(), dataset.path
    cause = _cause(error)
    if "gated" in cause:
        dataset.refuse("path", f"{cause} Ask for access on its page, then run `hf auth login` or set HF_TOKEN")
    if dataset.revision and cause.startswith("Revision"):
        refs = _asked(lambda: [api.list_repo_refs(path, repo_type="dataset")])
        names = [ref.name for each in refs for ref in (*each.branches, *each.tags)]
        there = f"; there is {listed(nearest_first(dataset.revision, names))}" if names else ""
        raise DataError(f"{dataset.section}.revision: {path} has no revision {dataset.revision!r}{there}") from error
    owner, _, name = path.rpartition("/")
    found = _asked(lambda: api.list_datasets(search=name, limit=SUGGESTIONS))
    if owner:
        found += _asked(lambda: api.list_datasets(author=owner, limit=SUGGESTIONS))
    ids = dict.fromkeys(each.id for each in found)
    near = f"; the nearest there: {listed(nearest_first(path, ids))}" if ids else ""
    dataset.refuse("path", f"the hub has no dataset {path!r}, or it is private{near}")


def _asked(ask: Callable[[], Iterable[Any]]) -> list[Any]:
    """What the hub answers; nothing when it does not, because it is asked only to help with another error."""
    try:
        return list(ask())
    except expected_errors():
        return []


def _explain_configuration(dataset: HubDataset) -> None:
    """Refuse a configuration that is not there, or none where there are several; else return."""
    import datasets

    names = _asked(lambda: datasets.get_dataset_config_names(dataset.path, revision=dataset.revision))
    if dataset.name is None and len(names) > 1:
        dataset.refuse("name", f"{dataset.path} has several configurations; choose one of {listed(names)}")
    if dataset.name is not None and names and dataset.name not in names:
        there = listed(nearest_first(dataset.name, names))
        dataset.refuse("name", f"{dataset.path} has no configuration {dataset.name!r}; there is {there}")
