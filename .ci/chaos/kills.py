"""SIGKILL at changes to the disk and at random times: how many runs end equal bit for bit."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from stormed_runs import FaultyRuns, Subject, checkpoints, subjects

from apelr_model import load_newest_checkpoint


def kills(points: int, seed: int) -> Iterator[str]:
    """Lines about `points` kills at a change and as many at random times; ends the program where one loses anything."""
    draw = random.Random(seed)
    with TemporaryDirectory() as folder, FaultyRuns() as apelr:
        each = list(subjects(apelr, Path(folder)))
        for subject in each:
            chosen = chosen_changes(subject, points // len(each), draw)
            for number in chosen:
                at_change(apelr, subject, number)
            kinds = {kind for kind, _ in (subject.changes[number - 1] for number in chosen)}
            yield f"{len(chosen)} kills at changes ({', '.join(sorted(kinds))}): {subject.name}: all ended equal"
        for subject in each:
            hit = at_random(apelr, subject, points // len(each), draw)
            yield f"{hit} kills at random times: {subject.name}: all ended equal"


def chosen_changes(subject: Subject, count: int, draw: random.Random) -> list[int]:
    """Numbers of changes, 1 the first: as many writes as other changes, so that not all lie within a file."""
    numbers = range(1, len(subject.changes) + 1)
    writes = [number for number in numbers if subject.changes[number - 1][0] == "write"]
    others = [number for number in numbers if subject.changes[number - 1][0] != "write"]
    half = min(count // 2, len(writes))
    return sorted(draw.sample(writes, half) + draw.sample(others, min(count - half, len(others))))


def at_change(apelr: FaultyRuns, subject: Subject, number: int) -> None:
    """Kill a run at one change, then let it end."""
    run = subject.fresh()
    killed = apelr(*subject.arguments(run), watched=subject.watched, fault={"at": number, "do": "KILL"})
    where = f"{subject.name}: killed before change {number}, {subject.changes[number - 1]}"
    if killed["code"] != -9:
        raise SystemExit(f"{where}: it was not killed: {killed['said']}")
    finish(apelr, subject, run, where, saved=subject.has_saved(number))


def at_random(apelr: FaultyRuns, subject: Subject, count: int, draw: random.Random) -> int:
    """Kill runs again and again at random times until they end, until `count` kills have hit one; their number."""
    run = subject.fresh()
    began = time.monotonic()
    finish(apelr, subject, run, f"{subject.name}: undisturbed", saved=False)
    lasts = time.monotonic() - began
    hit = 0
    while hit < count:
        run = subject.fresh()
        while apelr(*subject.arguments(run), watched=subject.watched, seconds=draw.uniform(0, lasts))["code"] == -9:
            hit += 1
            where = f"{subject.name}: killed at random, kill {hit}"
            check_whole(run, where, saved=False)
        finish(apelr, subject, run, f"{subject.name}: after {hit} kills", saved=False)
    return hit


def check_whole(run: Path, where: str, *, saved: bool) -> None:
    """End the program unless every checkpoint under its own name is whole, and there is one where one was saved."""
    checkpoints(run)
    newest = load_newest_checkpoint(run)
    damaged = bool(newest) and any("not found" not in line for line in newest.skipped)
    if damaged or (saved and not newest):
        raise SystemExit(f"{where}: a checkpoint is lost or damaged")


def finish(apelr: FaultyRuns, subject: Subject, run: Path, where: str, *, saved: bool) -> None:
    """Go on to the end. Ends the program unless a checkpoint was there and the end is equal bit for bit."""
    check_whole(run, where, saved=saved)
    resumed = apelr(*subject.arguments(run), watched=subject.watched)
    went_on = "resuming" in resumed["said"] or "is finished" in resumed["said"]
    if resumed["code"] or (saved and not went_on):
        raise SystemExit(f"{where}: it did not go on: {resumed['said']}")
    if wrong := subject.difference(run):
        raise SystemExit(f"{where}: it did not end equal: {wrong}")
