"""A disk that is full, fails or is read-only at a change: one line, nothing lost, and an equal end afterwards."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kills import chosen_changes, finish
from stormed_runs import FaultyRuns, Subject, subjects

ERRORS = ("ENOSPC", "EIO", "EROFS")


def faults(points: int, seed: int) -> Iterator[str]:
    """Lines about `points` faults for each error; 0 for one at every change."""
    draw = random.Random(seed)
    with TemporaryDirectory() as folder, FaultyRuns() as apelr:
        each = list(subjects(apelr, Path(folder)))
        for subject in each:
            every = range(1, len(subject.changes) + 1)
            told, harmless = 0, 0
            for error in ERRORS:
                for number in chosen_changes(subject, points // len(each), draw) if points else every:
                    told_so = at_change(apelr, subject, number, error)
                    told, harmless = told + told_so, harmless + (not told_so)
            yield (
                f"{told + harmless} faults ({', '.join(ERRORS)}): {subject.name}: {told} ended the run in one line, "
                f"{harmless} changed nothing; all ended equal afterwards"
            )


def at_change(apelr: FaultyRuns, subject: Subject, number: int, error: str) -> bool:
    """Whether an error at one change ended the run; ends the program where it did so in another way than it should."""
    run = subject.fresh()
    failed = apelr(*subject.arguments(run), watched=subject.watched, fault={"at": number, "do": error})
    change = subject.changes[number - 1]
    where = f"{subject.name}: {error} at change {number}, {change}"
    lines = failed["said"].splitlines()
    if failed["code"] == 0:
        if wrong := subject.difference(run):
            raise SystemExit(f"{where}: it went unnoticed, and the end is another one: {wrong}")
        return False
    if failed["code"] != 1 or not is_one_line(lines, error) or str(subject.folder) not in lines[-1]:
        raise SystemExit(f"{where}: {failed}")
    left_over = [path for path in run.rglob("*") if path.name.endswith(".tmp")]
    if left_over and change[0] != "remove":  # what cannot be removed stays
        raise SystemExit(f"{where}: {left_over} is left")
    finish(apelr, subject, run, where, saved=subject.has_saved(number))
    return True


def is_one_line(lines: list[str], error: str) -> bool:
    """Whether the last line is the only one of an error, and gives its reason."""
    number: Any = getattr(errno, error)
    errors = [line for line in lines if line.startswith("Error: ") or "Traceback" in line]
    return len(errors) == 1 and lines[-1:] == errors and os.strerror(number) in lines[-1]
