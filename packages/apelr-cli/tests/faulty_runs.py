"""Runs of the `apelr` command with a fault at one of the changes that they make to the disk, and what they come to.

`FaultyRuns` starts this file as a program, which reads jobs from standard input, one JSON object a line, and answers
each in one line. Every job is a fork of it, so that libraries are imported once. Opening for writing, writing, flushing
to disk, renaming, linking, removing and making folders are counted where they concern the folders to watch; nothing of
`apelr` itself is changed.
"""

import builtins
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

NEW_FILE = set("wax+")
UNNAMED = ("write", "flush")
"""Changes of files that are open: their errors do not say which."""
TIMES = ("tokens_per_second", "waiting_for_rows")
"""Of a line of metrics, what depends on the clock."""


class FaultyRuns:
    """A process that runs the command in forks of itself, for the time of a `with` block."""

    def __enter__(self) -> "FaultyRuns":
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env={**os.environ, **ONE_THREAD}
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def __call__(self, *arguments: object, watched: Iterable[Path], **job: Any) -> dict[str, Any]:
        """Run `apelr ARGUMENTS`, with `fault` (see `Faults`), or killed after `seconds`: code, said, changes.

        The code is negative where a signal has killed it; the changes are None then.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job |= {"arguments": list(map(str, arguments)), "watched": list(map(str, watched))}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def same(left: Any, right: Any) -> bool:
    """Whether both are equal bit for bit, tensors and what holds them."""
    import torch

    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def results(run: Path) -> list[Any]:
    """All that a finished run has found out: the last state of training, every loss, every evaluation; no times."""
    from apelr_model import load_checkpoint

    last = load_checkpoint(run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    final = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    plans = json.loads((run / "planner_eval.json").read_text(encoding="utf-8"))
    return [last.step, last.model, last.training, lines, final["validation"], final["step"], plans]


def checkpoints(run: Path) -> list[int]:
    """The steps of the checkpoints in a folder, files and folders. Raises CheckpointError unless each is whole."""
    from apelr_model import load_checkpoint

    found = [path for path in run.glob("checkpoints/step-*") if path.suffix in (".pt", "")]
    return [load_checkpoint(path).step for path in sorted(found)]


class Faults:
    """Counts the changes to the disk below `watched`, notes them, and does what is asked for at one of them.

    `fault` has `do` and, of the changes that count, `at`, the number of one (1 is the first); where it has `kind` or
    `name`, only those count whose kind is that and whose path ends so. `do` is KILL (SIGKILL, of a write after half of
    it), the name of a signal, the name of an error number, or REMOVE (the folder to watch is removed).
    """

    def __init__(self, watched: list[str], fault: dict[str, Any] | None) -> None:
        self.watched = [Path(folder).resolve() for folder in watched]
        self.fault = fault
        self.seen = 0
        self.changes: list[tuple[str, str]] = []

    def install(self) -> None:
        """Put this between the interpreter and the disk."""
        opened = io.open
        io.open = builtins.open = lambda file, mode="r", *rest, **more: self._open(opened, file, mode, *rest, **more)
        os_open = os.open
        os.open = lambda path, flags, *rest, **more: self._os_open(os_open, path, flags, *rest, **more)
        flush = os.fsync
        os.fsync = lambda descriptor: self._flush(flush, descriptor)
        for name, kind in {"replace": "rename", "rename": "rename", "link": "link"}.items():
            setattr(os, name, self._counted(getattr(os, name), kind, 1))
        for name, kind in {"unlink": "remove", "remove": "remove", "mkdir": "mkdir", "rmdir": "remove"}.items():
            setattr(os, name, self._counted(getattr(os, name), kind, 0))

    def at(self, kind: str, path: Any, half: Callable[[], None] = lambda: None) -> None:
        """A change is about to be made; `half` makes half of it."""
        name = self._name(path)
        if name is None:
            return
        self.changes.append((kind, name))
        fault = self.fault
        if fault is None or kind != fault.get("kind", kind) or not name.endswith(fault.get("name", "")):
            return
        self.seen += 1
        if self.seen == fault["at"]:
            self._do(str(fault["do"]), path, half, is_named=kind not in UNNAMED)

    def _do(self, what: str, path: Any, half: Callable[[], None], *, is_named: bool) -> None:
        if what == "KILL":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        elif what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, what))
        elif what == "REMOVE":
            self.fault = None
            shutil.rmtree(self.watched[0])
        else:
            half()
            number = getattr(errno, what)
            raise OSError(number, os.strerror(number), *([os.fspath(path)] if is_named else []))

    def _name(self, path: Any) -> str | None:
        """The path from the folder that is watched on; None where none is."""
        if not isinstance(path, str | os.PathLike):
            return None
        path = Path(path)
        full = path.parent.resolve() / path.name
        found = [folder for folder in self.watched if full.is_relative_to(folder)]
        return str(full.relative_to(found[0])) if found else None

    def _open(self, opened: Any, file: Any, mode: str, *rest: Any, **more: Any) -> Any:
        if not NEW_FILE & set(mode) or self._name(file) is None:
            return opened(file, mode, *rest, **more)
        self.at("open", file)
        return _Watched(opened(file, mode, *rest, **more), self, file)

    def _os_open(self, opened: Any, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            self.at("open", path)
        return int(opened(path, flags, *rest, **more))

    def _flush(self, flush: Any, descriptor: int) -> None:
        self.at("flush", Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    def _counted(self, inner: Any, kind: str, place: int) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self.at(kind, arguments[place])
            return inner(*arguments, **more)

        return call


class _Watched:
    """A file whose writes count."""

    def __init__(self, file: Any, faults: Faults, path: Any) -> None:
        self._file, self._faults, self._path = file, faults, path

    def write(self, content: Any) -> Any:
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._faults.at("write", self._path, half)
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Watched":
        self._file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> Any:
        return self._file.__exit__(*exception)


def run(job: dict[str, Any], said: Path, noted: Path) -> int:
    """In the fork: the command with the fault. What it says and the changes that it makes go into files."""
    from apelr_cli.main import main

    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faults = Faults(job["watched"], job.get("fault"))
    write = noted.write_text
    faults.install()
    try:
        main([str(argument) for argument in job["arguments"]], prog_name="apelr")
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python itself does at its end
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    write(json.dumps(faults.changes), encoding="utf-8")
    return code


def answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fork, wait, and tell what became of it; with `seconds` in the job it is killed after so many."""
    said, noted = folder / "said", folder / "noted"
    for path in (said, noted):
        path.unlink(missing_ok=True)
    said.touch()
    child = os.fork()
    if child == 0:
        os._exit(run(job, said, noted))
    ended, status = 0, 0
    if "seconds" in job:
        end = time.monotonic() + job["seconds"]
        while not ended and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    changes = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else None
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "said": said.read_text(encoding="utf-8", errors="replace"), "changes": changes}


def serve() -> None:
    """Answer jobs until there are no more."""
    import torch._dynamo  # for the forks, as all of these: the first optimizer step would import it  # noqa: F401

    import apelr_cli.commands.train
    import apelr_cli.config_reader
    import apelr_cli.dry_run
    import apelr_cli.training_start  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), Path(folder))), flush=True)


if __name__ == "__main__":
    serve()
