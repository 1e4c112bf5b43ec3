"""Runs of `apelr train`, each a process of its own, and numbers from their folders as table cells."""

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluations import apelr, evaluation

from apelr_cli.config_reader import load_run_config
from apelr_cli.run_config import differences, to_plain

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PLAIN = ((),)
"""One evaluation, without options."""


@dataclass(frozen=True)
class Run:
    """One training run of an experiment: a shipped config, what is changed in it, a seed, and what is measured."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seed: int = 0
    evaluations: tuple[tuple[str, ...], ...] = ()
    """Options of each `apelr eval` that the table asks for."""

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
    """Train and evaluate what is missing, `workers` runs at a time, one thread each; a failed one ends the program."""
    every = list(runs)
    waiting = [run for run in every if not is_finished(run, out)]

    def finish(run: Run) -> Run:
        if run in waiting:
            _train(run, out)
        for options in run.evaluations:
            evaluation(run.folder(out), *options)
        return run

    with ThreadPoolExecutor(workers) as pool:
        for number, run in enumerate(pool.map(finish, every), 1):
            print(f"{number}/{len(every)} {run.name}, seed {run.seed}", file=sys.stderr, flush=True)


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


def _train(run: Run, out: Path) -> None:
    arguments = [f"--config={run.config_file}", *(f"--set={each}" for each in run.settings)]
    apelr(["train", *arguments, f"--out={run.folder(out)}", "--resume=auto", "--quiet"])


def mixtures(config: str, seed: int) -> list[Run]:
    """Mixtures of softmaxes with the learning rate of gate and states' biases as everything's, and as v2 has it."""
    return [Run(f"mixture-gate-lr-{scale}", config, (f"train.planner_lr_scale={scale}",), seed) for scale in (1, 5)]


def read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run."""
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def cell(values: Iterable[float | None], form: str = ".3f") -> str:
    """Mean and standard deviation over seeds; a dash where there is no such number."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {format(statistics.stdev(known), form.lstrip('+'))}" if len(known) > 1 else ""
    return f"{format(statistics.mean(known), form)}{spread}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
