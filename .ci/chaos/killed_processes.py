"""SIGKILL to one of two processes under torchrun, which starts both anew: the end must be that of two left alone."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stormed_runs import CONFIGS, ROOT, V2, checkpoints, results, same, write_config

WORKER = ROOT / "packages" / "apelr-cli" / "tests" / "process_worker.py"
DDP = ("--set", "train.distributed.strategy=ddp")
STEPS_A_KILL = 4
"""Steps of a run for each time that it is killed; it saves at every second step."""


def killed_processes(points: int, seed: int) -> Iterator[str]:
    """A line about a run of which a process is killed again and again."""
    draw = random.Random(seed)
    count = max(1, points // 10)
    steps = STEPS_A_KILL * count
    kills = [(step, number % 2) for number, step in enumerate(sorted(draw.sample(range(1, steps + 1), count)))]
    with TemporaryDirectory() as folder:
        difference(Path(folder), steps, kills)
    first = sum(rank == 0 for _, rank in kills)
    yield (
        f"{count} kills of one of two processes, {first} of them of the one that saves, in a run of {steps} steps: "
        "it ended equal to one that was left alone"
    )


def difference(folder: Path, steps: int, kills: Sequence[tuple[int, int]]) -> None:
    """Kill, after each of these steps, the process of that rank; ends the program unless the end is equal."""
    config = write_config(folder, CONFIGS[V2], {"max_steps": steps, "grad_accum_steps": 1})
    whole = trained(folder, config, "whole", ())
    parts = trained(folder, config, "parts", kills)
    if not same(whole, parts):
        raise SystemExit(f"{V2}: killed after {list(kills)}: it did not end equal")


def trained(folder: Path, config: Path, name: str, kills: Sequence[tuple[int, int]]) -> list[Any]:
    """What a run of two processes comes to, with its checkpoints."""
    sent = folder / f"{name}-sent"
    signals = [part for step, rank in kills for part in (step, f"{rank}:SIGKILL")]
    launch = ["--standalone", "--nproc-per-node=2", f"--max-restarts={len(kills)}"]
    arguments = ["train", "--config", config, "--out", folder / name, "--resume", "auto", *DDP]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, WORKER, sent, *signals, "--", *arguments]
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode or (kills and len(sent.read_text(encoding="utf-8")) != len(kills)):
        raise SystemExit(f"{name}: {done.stderr}")
    return [*results(folder / name), checkpoints(folder / name)]
