"""The tables of docs/experiments.md: nox -s experiments -- NAME, or python .ci/experiments NAME.

Runs lie in runs/experiments/NAME; those that are finished there are not made again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import ablations
import frontier
import large
import planted
import real_text
import storyworld
from running import train_all

TABLES = {module.__name__: module for module in (planted, storyworld, real_text, ablations, frontier, large)}


def main() -> None:
    """Make what is missing of a table's runs, and print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="nox -s experiments --", description=__doc__)
    parser.add_argument("name", choices=TABLES, help="; ".join(f"{n}: {t.__doc__}" for n, t in TABLES.items()))
    parser.add_argument("--seeds", type=int, help="seeds 0 .. N - 1 in place of the table's own number")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--set", action="append", default=[], help="KEY.SUB=VALUE for every run, such as another text")
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/experiments/NAME)")
    chosen = parser.parse_args()
    table, out = TABLES[chosen.name], chosen.out or Path("runs/experiments") / chosen.name
    seeds = range(chosen.seeds or table.SEEDS)
    for runs in table.stages(seeds, out):
        changed = [replace(run, overrides=(*run.overrides, *chosen.set)) for run in runs]
        train_all(changed, out, workers=chosen.workers)
    print(table.table(seeds, out))


if __name__ == "__main__":
    main()
