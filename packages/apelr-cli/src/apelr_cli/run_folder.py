"""The run folder: who may write into it, and the small files beside the checkpoints."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from apelr_cli.json_values import as_json

__all__ = ["RunError", "RunFolder", "environment"]

LOCK_NAME = "run.lock"
OWN_FILES = {
    "checkpoint.pt": "The newest complete checkpoint: all that `sample`, `score` and `--resume` need.",
    "checkpoint.json": "In its place with `train.sharded_checkpoints`: the name of the newest one's folder.",
    "checkpoints": "Folder of all checkpoints: files `step-<8 digits>.pt`, or, of shards, folders `step-<8 digits>`.",
    "tokenizer.json": "The fitted tokenizer (also inside every checkpoint).",
    "metrics.json": "Final evaluation on all held-out text, with reference figures; its presence marks a finished run.",
    "planner_eval.json": "Planner diagnostics on held-out text (train.val_batches batches), each state's tokens, and, "
    "where the corpus knows its plans, how well they were found.",
    "metrics.jsonl": "One JSON object a line: training steps, splits of plan states, evaluations, previews.",
    "tensorboard": "Folder of TensorBoard's event files, where train.sinks asks for them: made from metrics.jsonl.",
    "config.yaml": "The resolved config: every key with its value.",
    "run.json": "Versions, command, device, seed, git revision, parameters and FLOPs by part, counts of the text read.",
    "report.html": "A page about the run, made by `apelr report`.",
    LOCK_NAME: "Locked by the process that trains in the folder, so that no second one does; empty.",
}
"""Everything that a run writes; `--force` removes these, but for the lock it holds, and touches nothing else."""

LIBRARIES = ("apelr-cli", "apelr-data", "apelr-model", "apelr-tokenizers", "torch", "tokenizers", "numpy")


class RunError(ValueError):
    """A run folder cannot be used as asked; the message says what can be done instead."""


class RunFolder:
    """One run's files. Small files are written whole or not at all; metrics.jsonl grows by flushed lines.

    Of several processes one alone `writes`: what the others ask to be written or removed is left alone.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes

    @property
    def checkpoint(self) -> Path:
        """What stands for the newest complete checkpoint."""
        pointer = self.path / "checkpoint.json"
        return pointer if pointer.exists() else self.path / "checkpoint.pt"

    @property
    def is_finished(self) -> bool:
        """Whether the run has written its final metrics."""
        return (self.path / "metrics.json").is_file()

    @property
    def is_held(self) -> bool:
        """Whether the file that a run holds locked is there: the folder is not gone, nor another in its place."""
        return (self.path / LOCK_NAME).is_file()

    def refuse_unless_empty(self) -> None:
        """Raise RunError where the folder holds anything, or is no folder."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is not a folder; give another with --out")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise RunError(
                f"{self.path} is not empty: go on with --resume auto, start afresh with --force "
                "(removes the run in it), or give another folder with --out"
            )

    def holds_only_unstarted_run(self) -> bool:
        """Whether a run died here before its first checkpoint, leaving only its own small files, or half of one."""
        names = [child.name.removesuffix(".tmp") for child in self.path.iterdir()]
        return all(name in OWN_FILES for name in names) and not self.checkpoint.exists()

    def clear(self) -> None:
        """Remove the files of an earlier run, and nothing else. The lock stays: the new run holds it."""
        for name in OWN_FILES.keys() - {LOCK_NAME} if self.writes else ():
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write one small file whole or not at all. Raises OSError, also where the run folder is gone."""
        if not self.writes:
            return
        temporary = self.path / f"{name}.tmp"
        try:
            with _named_errors(self.path / name), temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one small JSON file; numbers that are not finite become null."""
        self.write_text(name, json.dumps(as_json(content), indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """One small JSON file; empty where it is missing or damaged, since nothing of the run depends on it."""
        if not (self.path / name).is_file():
            return {}
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one JSON object as a line of metrics.jsonl, flushed."""
        if not self.writes:
            return
        path = self.path / "metrics.jsonl"
        with _named_errors(path), path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(as_json(line), ensure_ascii=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that are complete. Raises RunError where one is not what a run writes."""
        return [line for _, line in self._metrics_lines()]

    def _metrics_lines(self) -> list[tuple[str, dict[str, Any]]]:
        """`metrics`, each with its text."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            if path.exists() or path.is_symlink():
                raise RunError(f"{path} is not a regular file; remove it to go on")
            return []
        try:
            complete = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]  # U+2028 ends no line
            lines = [json.loads(line) for line in complete]
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}; remove it to go on") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} holds a line that is not JSON; remove it to go on: {error}") from error
        for number, line in enumerate(lines, 1):
            if not (isinstance(line, dict) and type(line.get("step")) is int and isinstance(line.get("kind"), str)):
                raise RunError(f"{path} holds a line without step and kind, line {number}; remove the file to go on")
        return list(zip(complete, lines, strict=True))

    def forget_metrics_after(self, step: int) -> None:
        """Drop metrics of later steps, and a broken last line: a resumed run writes them again."""
        if not self.writes:
            return
        lines = self._metrics_lines()
        kept = [text for text, line in lines if line["step"] <= step and line["kind"] != "final"]
        self.write_text("metrics.jsonl", "".join(f"{text}\n" for text in kept))
        (self.path / "metrics.json").unlink(missing_ok=True)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Within the block, an OSError of a file that is open, which says nothing of its name, is one of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def environment() -> dict[str, Any]:
    """What run.json says about where and how the run was started."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "platform": platform.platform(),
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    """The revision of the checkout the command was started in, with '+changes' where files differ; else None."""
    try:
        revision = _git("rev-parse", "HEAD")
        return revision + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=10, encoding="utf-8")
    return done.stdout.strip()
