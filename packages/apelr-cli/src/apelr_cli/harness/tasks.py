"""Running tasks of the harness on a loaded model: what `apelr eval --tasks` does."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from apelr_cli.json_values import as_json
from apelr_cli.loading import LoadedModel
from apelr_cli.near_names import did_you_mean
from apelr_model import PlanPolicy

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

__all__ = ["HarnessError", "TaskResults", "require_harness", "run_tasks"]

MISSING = "the lm-evaluation-harness is not installed; install it with: pip install 'apelr-cli[lm-eval]'"
KEPT = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better", "config", "lm_eval_version")


class HarnessError(ValueError):
    """The harness is not there, or cannot run what it was asked to; the message is one line."""


class TaskResults(NamedTuple):
    """What the harness found."""

    plain: dict[str, Any]
    """The harness's results as JSON has them (no NaN, no infinity: null)."""
    table: str
    """The harness's own table, Markdown."""


def require_harness() -> None:
    """Raise HarnessError, which says what to install, where the harness is not."""
    if find_spec("lm_eval") is None:
        raise HarnessError(MISSING)


def run_tasks(
    loaded: LoadedModel,
    tasks: Sequence[str],
    *,
    include_path: Path | None = None,
    limit: float | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    policy: PlanPolicy | None = None,
) -> TaskResults:
    """Evaluate `loaded` on the named tasks, groups or tags (patterns with * too).

    `include_path` is a folder with tasks of one's own; a name that is there and in the harness is one's own. `limit`
    takes that many examples of each task, or that share of them below 1; `num_fewshot` replaces a task's own number
    of examples in the prompt. The other settings are those of `ApelrLM`. Raises HarnessError where the harness is
    missing, knows no such task or cannot load one, and ValueError or OSError where a task's data are not there.
    """
    require_harness()
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError
    from lm_eval import simple_evaluate
    from lm_eval.utils import make_table
    from yaml import YAMLError

    from apelr_cli.harness.model import ApelrLM

    model = ApelrLM(loaded, batch_size=batch_size, seed=seed, policy=policy)
    try:
        chosen = _choose(tasks, include_path)
        found = simple_evaluate(
            model=model,
            tasks=chosen.loaded,
            task_manager=chosen.manager,
            num_fewshot=num_fewshot,
            limit=int(limit) if limit is not None and limit >= 1 else limit,
            batch_size=batch_size,
            device=str(loaded.model.device),
            log_samples=False,
        )
    except (DatasetsError, TemplateError, YAMLError) as error:
        raise HarnessError(_cannot(tasks, error.__cause__ or error)) from error
    assert found is not None, "there is one process"
    tables = [make_table(found, column) for column in ("results", "groups") if found.get(column)]
    return TaskResults({name: _plain(found[name]) for name in KEPT if name in found}, "\n".join(tables) + "\n")


class _Chosen(NamedTuple):
    manager: "TaskManager"
    loaded: list[Any]
    """Tasks and groups with their data, no task twice."""


def _choose(tasks: Sequence[str], include_path: Path | None) -> _Chosen:
    """What the names and patterns stand for. Raises HarnessError for one that stands for none or cannot be loaded.

    Tasks of one's own are tried alone first: reading the harness's thousands takes seconds.
    """
    from lm_eval.tasks import TaskManager

    if include_path is not None and not include_path.is_dir():
        raise HarnessError(f"{include_path} is not a folder of task files")
    folder = None if include_path is None else str(include_path)
    if folder is not None:
        manager = TaskManager(include_path=folder, include_defaults=False)
        names = _names(manager, tasks)
        if all(names.values()):
            with suppress(KeyError, TypeError):  # a group may hold tasks of the harness
                return _Chosen(manager, _load(manager, names))
    manager = TaskManager(include_path=folder)
    names = _names(manager, tasks)
    for name, found in names.items():
        if not found:
            raise HarnessError(f"the harness has no task {name}{did_you_mean(name, manager.all_tasks)}")
    try:
        return _Chosen(manager, _load(manager, names))
    except (KeyError, TypeError) as error:
        raise HarnessError(_cannot(tasks, error)) from error


def _names(manager: "TaskManager", tasks: Sequence[str]) -> dict[str, list[str]]:
    """Each name or pattern, and the names that it stands for."""
    return {name: manager.match_tasks([name]) for name in tasks}


def _load(manager: "TaskManager", names: Mapping[str, Sequence[str]]) -> list[Any]:
    """The tasks and groups themselves; those inside a group are not listed beside it."""
    loaded = manager.load(list(dict.fromkeys(each for found in names.values() for each in found)))
    groups, singles = loaded.get("groups", {}), loaded["tasks"]
    inside = {each.name for group in groups.values() for each in group.get_all_groups()}
    inside |= {task.task_name for group in groups.values() for task in group.get_all_tasks()}
    return [each for found in (groups, singles) for name, each in found.items() if name not in inside]


def _cannot(tasks: Sequence[str], error: BaseException) -> str:
    return f"cannot run {', '.join(tasks)}: {type(error).__name__}: {error}"


def _plain(value: object) -> Any:
    """`value` in what JSON has, anything else (functions, in a task's config) as text."""
    return json.loads(json.dumps(as_json(value), default=str, allow_nan=False))
