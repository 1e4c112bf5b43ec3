"""Runs of `apelr train`, each a process of its own, and numbers from their folders as table cells."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from apelr_cli.config_reader import load_run_config
from apelr_cli.run_config import differences, to_plain

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Run:
    """One training run of an experiment: a shipped config, what is changed in it, and a seed."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seed: int = 0

    @property
    def config_file(self) -> Path:
        """The shipped config."""
        return CONFIGS / f"{self.config}.yaml"

    @property
    def settings(self) -> list[str]:
        """What is changed in it, as `--set` takes it."""
        return [f"seed={self.seed}", *self.overrides]

    def folder(self, out: Path) -> Path:
        """Where the run lies."""
        return out / f"{self.name}-{self.seed}"


def train_all(runs: Iterable[Run], out: Path, *, workers: int) -> None:
    """Finish every run that is not finished, `workers` at a time, one thread each; a failed one ends the program."""
    waiting = [run for run in runs if not is_finished(run, out)]
    with ThreadPoolExecutor(workers) as pool:
        for number, run in enumerate(pool.map(lambda each: _train(each, out), waiting), 1):
            print(f"{number}/{len(waiting)} {run.name}, seed {run.seed}", file=sys.stderr, flush=True)


def is_finished(run: Run, out: Path) -> bool:
    """Whether the run has been made; one that was made by another config than it would be now ends the program."""
    folder = run.folder(out)
    if not (folder / "metrics.json").is_file():
        return False
    made, now = load_run_config(folder / "config.yaml"), load_run_config(run.config_file, run.settings)
    changed = [line for line in differences(to_plain(made), to_plain(now)) if not line.startswith("train.out_dir:")]
    if changed:
        raise SystemExit(f"{folder} was made with another config ({changed[0]}): remove it, or give another --out")
    return True


def _train(run: Run, out: Path) -> Run:
    arguments = [f"--config={run.config_file}", *(f"--set={each}" for each in run.settings)]
    apelr(["train", *arguments, f"--out={run.folder(out)}", "--resume=auto", "--quiet"])
    return run


def apelr(arguments: Sequence[str]) -> str:
    """What a command writes to standard output; its one line of error ends the program."""
    command = [sys.executable, "-m", "apelr_cli", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(f"failed: apelr {' '.join(arguments)}")
    return done.stdout


@cache
def evaluation(folder: Path, *options: str) -> dict[str, Any]:
    """The object of `apelr eval`; kept in a file beside the checkpoint, since experiments are asked for again."""
    kept = folder / f"eval{'-'.join(options)}.json"
    if not kept.is_file():
        text = apelr(["eval", f"--checkpoint={folder}", *options, "--format=json"])
        kept.write_text(text, encoding="utf-8")
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run."""
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def cell(values: Iterable[float | None], form: str = ".3f") -> str:
    """Mean and standard deviation over seeds; a dash where there is no such number."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {format(statistics.stdev(known), form)}" if len(known) > 1 else ""
    return f"{format(statistics.mean(known), form)}{spread}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
