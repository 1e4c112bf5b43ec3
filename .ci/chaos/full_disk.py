"""A real disk that fills, with more and more room before it is full: one line, nothing lost, and an equal end."""

import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from disk import is_one_line
from kills import finish
from small_disk import SmallDisk
from stormed_runs import FaultyRuns, Subject, subjects

from apelr_model import load_newest_checkpoint
from apelr_model.checkpoint_files import find_checkpoint, newest_name

MORE = ("--set", "train.keep_checkpoints=null")
"""All checkpoints stay, so that a run needs ever more room; what a run keeps may change when it is taken up."""


def fillings(points: int, seed: int) -> Iterator[str]:
    """Lines about `points` disks that had room for some pages only."""
    draw = random.Random(seed)
    with TemporaryDirectory() as folder, FaultyRuns() as apelr:
        each = list(subjects(apelr, Path(folder)))
        for subject in each:
            needed = pages_of(subject)
            count = min(points // len(each), needed)
            with_checkpoint = sum(
                filled(apelr, subject, pages) for pages in sorted(draw.sample(range(1, needed), count))
            )
            yield (
                f"{count} full disks: {subject.name}: all ended in one line, {with_checkpoint} of them with a "
                "checkpoint; all ended equal when there was room"
            )


def pages_of(subject: Subject) -> int:
    """How many pages a run needs that keeps all checkpoints, the last file left out."""
    newest = find_checkpoint(subject.folder / "run")
    files = [*newest.iterdir()] if newest.is_dir() else [newest]
    return (1 + 4) * sum(-(-file.stat().st_size // SmallDisk.PAGE) for file in files)


def filled(apelr: FaultyRuns, subject: Subject, pages: int) -> bool:
    """Run on a disk with so many pages left, then make room and go on; whether a checkpoint was there."""
    subject.fresh()
    where = f"{subject.name}: {pages} pages"
    try:
        with SmallDisk(subject.folder / "disk") as small:
            run = small.folder / "run"
            small.leave(pages)
            failed = apelr(*subject.arguments(run), *MORE, watched=[run])
            lines = failed["said"].splitlines()
            if failed["code"] != 1 or not is_one_line(lines, "ENOSPC") or str(run) not in lines[-1]:
                raise SystemExit(f"{where}: {failed}")
            if left_over := list(run.rglob("*.tmp")):
                raise SystemExit(f"{where}: {left_over} is left")
            small.make_room()
            saved = newest_name(run).exists() and load_newest_checkpoint(run) is not None
            finish(apelr, subject, run, where, saved=saved)
    finally:
        (subject.folder / "disk").rmdir()
    return saved
