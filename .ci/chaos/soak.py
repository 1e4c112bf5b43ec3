"""One long run of everything: what it holds of memory, open files and threads after a while, and at its end.

As a program (`soak.py FILE EVERY ARGUMENTS ...`) it is the run: `apelr ARGUMENTS`, which notes after every so many
steps what its process holds, a JSON object a line.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median_low
from tempfile import TemporaryDirectory
from typing import Any

from stormed_runs import CONFIGS, V2, write_config

SAMPLES = 200
"""How often a run is looked at."""
PART = 20
"""The looks of each of the two times that are compared; the first of them follows on as many that are left out."""
MOST_GROWTH = 0.02


def soak(steps: int) -> Iterator[str]:
    """Lines about a run of so many steps; ends the program where it holds more at its end."""
    with TemporaryDirectory() as folder:
        looks = observed(Path(folder), steps)
    before, after = looks[PART : 2 * PART], looks[-PART:]
    memory = [sum(look["memory"] for look in part) / PART for part in (before, after)]
    counts = {
        name: [median_low(look[name] for look in part) for part in (before, after)] for name in ("files", "threads")
    }
    growth = memory[1] / memory[0] - 1
    done = f"{looks[-1]['saves']} saves, {looks[-1]['evaluations']} evaluations, {looks[-1]['previews']} previews"
    line = (
        f"{steps:,} steps with {done}: memory {memory[0] / 2**20:.1f} MiB after {2 * PART / SAMPLES:.0%} of them, "
        f"{memory[1] / 2**20:.1f} at the end ({growth:+.2%}); "
        + "; ".join(f"{name} {first}, then {last}" for name, (first, last) in counts.items())
    )
    if growth >= MOST_GROWTH or any(last > first for first, last in counts.values()):
        raise SystemExit(f"it holds more at its end than it did: {line}")
    yield line


def observed(folder: Path, steps: int) -> list[dict[str, Any]]:
    """What a run of so many steps held, at even intervals."""
    every = max(1, steps // SAMPLES)
    intervals = dict.fromkeys(("eval_interval", "preview_interval", "save_interval", "log_interval"), 2 * every)
    train = {**intervals, "max_steps": steps, "preview_tokens": 4, "grad_accum_steps": 1, "prefetch_factor": 32}
    config = write_config(folder, CONFIGS[V2], train)
    noted = folder / "noted"
    command = [__file__, noted, every, "train", "--quiet", "--config", config, "--out", folder / "run"]
    subprocess.run([sys.executable, *map(str, command)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return [json.loads(line) for line in noted.read_text(encoding="utf-8").splitlines()]


def run(noted: Path, every: int, arguments: list[str]) -> None:
    """The command, counting what it does and noting what it holds."""
    from apelr_cli.main import main
    from apelr_cli.run_checkpoints import RunCheckpoints
    from apelr_cli.training_run import TrainingRun
    from apelr_model import Trainer

    counts = dict.fromkeys(("saves", "evaluations", "previews"), 0)

    def counted(owner: type, method: str, name: str) -> None:
        inner = getattr(owner, method)

        def call(*given: Any) -> Any:
            counts[name] += 1
            return inner(*given)

        setattr(owner, method, call)

    counted(RunCheckpoints, "save", "saves")
    counted(TrainingRun, "_evaluate", "evaluations")
    counted(TrainingRun, "_preview", "previews")
    train_step = Trainer.train_step

    def watched(self: Trainer, batch: Any) -> Any:
        report = train_step(self, batch)
        if report.step % every == 0:
            with noted.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": report.step, **held(), **counts}) + "\n")
        return report

    Trainer.train_step = watched  # type: ignore[method-assign]
    main(arguments, prog_name="apelr")


def held() -> dict[str, int]:
    """Bytes of memory, open files and threads of this process."""
    process = Path("/proc/self")
    pages = int((process / "statm").read_text(encoding="utf-8").split()[1])
    files, threads = (len(list((process / folder).iterdir())) for folder in ("fd", "task"))
    return {"memory": pages * os.sysconf("SC_PAGE_SIZE"), "files": files, "threads": threads}


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
