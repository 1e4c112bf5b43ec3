"""Where metrics go beside metrics.jsonl: one small interface, a table of what keeps it, and the one call that opens it.

A new sink is a class that keeps `MetricsSink`, its name among the choices of `train.sinks`, an entry in `SINKS`, and
where it needs a library an extra of this package, named in `EXTRAS` with the module that is imported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from apelr_cli.json_values import as_json
from apelr_cli.run_folder import RunError, RunFolder

__all__ = ["EXTRAS", "MetricsSink", "RunMetrics", "check_sinks", "scalars"]


class MetricsSink(Protocol):
    """Takes what metrics.jsonl takes, after it. metrics.jsonl is the record of a run; a sink is made from it.

    A sink is opened when the run's files are known to be its own, and is given every line that metrics.jsonl holds by
    then: a run that is taken up writes its sinks anew, so that no step is there twice and none is missing.
    """

    def write(self, line: Mapping[str, Any]) -> None:
        """Take one line: `kind`, `step`, and plain JSON data. Raises OSError where it cannot be kept."""

    def close(self) -> None:
        """No more lines will come."""


def _tensorboard(folder: Path) -> MetricsSink:
    from apelr_cli.tensorboard_sink import TensorBoardSink

    return TensorBoardSink(folder)


SINKS: Mapping[str, Callable[[Path], MetricsSink]] = MappingProxyType({"tensorboard": _tensorboard})
"""By name: opens the sink of a run folder, empty."""

EXTRAS = MappingProxyType({"tensorboard": "tensorboardX"})
"""By name of the sink, which is that of the extra too: the module that it needs."""


def check_sinks(names: Iterable[str]) -> None:
    """Raise RunError for a sink whose library is not installed."""
    for name in names:
        module = EXTRAS.get(name)
        if module is not None and find_spec(module) is None:
            raise RunError(
                f'train.sinks: {name} needs {module}: python -m pip install "apelr-cli[{name}]", or leave it out'
            )


class RunMetrics:
    """What a run tells of itself: metrics.jsonl first, then the sinks. Of several processes one alone writes."""

    def __init__(self, folder: RunFolder, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._sinks: list[MetricsSink] = []

    def open(self) -> None:
        """Open the sinks with what metrics.jsonl holds, and nothing else. Raises OSError, and RunError for the file."""
        if self._folder.writes:
            self._sinks = [SINKS[name](self._folder.path) for name in self._names]
            for line in self._folder.metrics() if self._sinks else ():
                self._pass_on(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line: `kind`, `step`, and what JSON can hold. Raises OSError."""
        plain = as_json(line)
        self._folder.append_metrics(plain)
        self._pass_on(plain)

    def close(self) -> None:
        """No more lines will come."""
        for sink in self._sinks:
            sink.close()

    def _pass_on(self, line: Mapping[str, Any]) -> None:
        for sink in self._sinks:
            sink.write(line)


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by name, those within lists and objects as `name/0`, `name/key`; no null, no text."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if key not in ("kind", "step"):
            _gather(key, value, found)
    return found


def _gather(name: str, value: Any, found: dict[str, float]) -> None:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        found[name] = float(value)
        return
    for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
        _gather(f"{name}/{key}", each, found)
