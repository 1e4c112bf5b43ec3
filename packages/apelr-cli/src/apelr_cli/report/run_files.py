"""The small files of a run folder, read once for a report or a comparison."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apelr_cli.config_reader import load_run_config
from apelr_cli.run_config import RunConfig
from apelr_cli.run_folder import RunError, RunFolder

__all__ = ["RunFiles", "check_run", "read_run_files"]

OF_A_RUN = ("run.json", "metrics.jsonl", "config.yaml")
"""A folder without any of these is no run."""

Line = Mapping[str, Any]


class RunFiles(NamedTuple):
    """What a run has written beside its checkpoints; what is not there yet is empty."""

    path: Path
    config: RunConfig | None
    """None where there is no config.yaml."""
    about: Mapping[str, Any]
    """run.json."""
    metrics: tuple[Line, ...]
    """The lines of metrics.jsonl."""
    final: Mapping[str, Any]
    """metrics.json, of finished runs alone."""
    planner: Mapping[str, Any]
    """planner_eval.json, of finished runs alone."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def is_finished(self) -> bool:
        """Whether the final evaluation has been written."""
        return bool(self.final)

    @property
    def step(self) -> int:
        """The last step that something is known of."""
        return max((line["step"] for line in self.metrics), default=0)

    @property
    def max_steps(self) -> int | None:
        """The steps it is to have."""
        return None if self.config is None else self.config.train.max_steps

    def of_kind(self, *kinds: str) -> Iterator[Line]:
        """The lines of metrics.jsonl of these kinds, in their order."""
        return (line for line in self.metrics if line["kind"] in kinds)

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """The final evaluation on held-out text, else the newest periodic one, else nothing."""
        found: Mapping[str, Any] = self.final.get("validation") or {}
        for line in () if found else self.of_kind("validation", "final"):
            found = line
        return found


def check_run(path: Path) -> None:
    """Raise RunError where `path` is not the folder of a run."""
    if not path.is_dir():
        raise RunError(f"{path} is not a folder: give the folder that a run was trained into")
    if not any((path / name).is_file() for name in OF_A_RUN):
        raise RunError(f"{path} holds no run: none of {', '.join(OF_A_RUN)} is there")


def read_run_files(path: Path) -> RunFiles:
    """Read the folder of a run, finished or not.

    Raises RunError where it is no run folder or metrics.jsonl is damaged, ConfigError for a config of another version.
    """
    check_run(path)
    folder = RunFolder(path)
    config = path / "config.yaml"
    return RunFiles(
        path,
        load_run_config(config) if config.is_file() else None,
        folder.read_json("run.json"),
        tuple(folder.metrics()),
        folder.read_json("metrics.json"),
        folder.read_json("planner_eval.json"),
    )
