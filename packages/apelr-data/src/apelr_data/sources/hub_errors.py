"""The errors of the hub's libraries as one line that says what there is instead."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from apelr_data.errors import DataError, one_line
from apelr_data.sources.hub_dataset import HubDataset
from apelr_data.sources.nearest import listed, nearest_first

SUGGESTIONS = 20


def expected_errors() -> tuple[type[BaseException], ...]:
    """What reading from the hub may raise."""
    from datasets.exceptions import DatasetsError

    return (DatasetsError, ValueError, RuntimeError, KeyError, *connection_errors())


def explain(dataset: HubDataset, rows: int, error: BaseException) -> NoReturn:
    """Raise the DataError for an error that came after `rows` rows; asks the hub what there is instead."""
    from datasets.exceptions import DatasetNotFoundError

    if isinstance(error, DatasetNotFoundError):
        _explain_not_found(dataset, error)
    where = f"{dataset.section}.source {dataset.source} ({dataset.described})"
    if rows and isinstance(error, connection_errors()):
        raise DataError(
            f"{where}: the connection was lost after {rows} rows and did not come back ({_cause(error)}); "
            f"run again, or set {dataset.section}.streaming to false"
        ) from error
    if isinstance(error, ValueError):
        _explain_configuration(dataset)
    raise DataError(f"{where}: {_cause(error)}") from error


def connection_errors() -> tuple[type[BaseException], ...]:
    """What a lost connection may raise: the base error of whichever HTTP client the library uses, and OSError."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))


def _cause(error: BaseException) -> str:
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
