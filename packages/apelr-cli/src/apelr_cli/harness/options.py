"""The options of `apelr eval` that run tasks of the harness instead of reading a text."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

__all__ = ["TaskOptions", "task_options"]


class TaskOptions(NamedTuple):
    """What was asked of the harness."""

    names: tuple[str, ...]
    """Tasks, groups, tags or patterns; at least one."""
    include_path: Path | None
    """Folder with tasks of one's own."""
    limit: float | None
    """Examples of each task, or below 1 their share."""
    num_fewshot: int | None
    """Examples in the prompt; None leaves each task its own number."""


def task_options(*, apart_from: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--tasks` and what belongs to it; it gets them together, as `tasks`, None without `--tasks`.

    The values named in `apart_from` are about the text that is read otherwise, and must not be given beside tasks.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def bundled(tasks: tuple[str, ...], **values: Any) -> Any:
            given = [values.pop(name) for name in ("include_path", "limit", "num_fewshot")]
            names = tuple(name.strip() for each in tasks for name in each.split(",") if name.strip())
            if not names and (tasks or any(each is not None for each in given)):
                raise click.UsageError("--include-path, --limit and --num-fewshot need --tasks with a task's name")
            if names and any(values[name] for name in apart_from):
                raise click.UsageError(f"--tasks brings its own texts: give it without {_flags(apart_from)}")
            return command(tasks=TaskOptions(names, *given) if names else None, **values)

        decorated: Callable[..., Any] = bundled
        for option in reversed(OPTIONS):
            decorated = option(decorated)
        return decorated

    return decorate


OPTIONS = (
    click.option(
        "--tasks",
        multiple=True,
        metavar="NAME[,NAME…]",
        help="Run these tasks of the lm-evaluation-harness instead (extra apelr-cli[lm-eval]); * stands for anything.",
    ),
    click.option(
        "--include-path",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="With --tasks: a folder with tasks of your own, in the harness's YAML.",
    ),
    click.option(
        "--limit",
        type=click.FloatRange(min=0, min_open=True),
        help="With --tasks: this many examples of each task, or below 1 this share of them; for trying things out.",
    ),
    click.option(
        "--num-fewshot",
        type=click.IntRange(min=0),
        help="With --tasks: examples in the prompt. [default: each task's own number]",
    ),
)
"""In the order of the help page."""


def _flags(names: Sequence[str]) -> str:
    """The options that set the given parameters of the current command."""
    parameters = {parameter.name: parameter.opts for parameter in click.get_current_context().command.params}
    flags = [max(parameters[name], key=len) for name in names]
    return ", ".join(flags[:-1]) + f" and {flags[-1]}"
