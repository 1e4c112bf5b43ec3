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


def count(text: str) -> int:
    """An integer of 1 or more; argparse says the rest of the line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text}")
    return int(text)


def main() -> None:
    """Make what is missing of a table's runs, and print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="nox -s experiments --", description=__doc__)
    parser.add_argument("name", choices=TABLES, help="; ".join(f"{n}: {t.__doc__}" for n, t in TABLES.items()))
    parser.add_argument("--seeds", type=count, help="seeds 0 .. N - 1 in place of the table's own number")
    parser.add_argument("--workers", type=count, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--set", action="append", default=[], help="KEY.SUB=VALUE for every run, such as another text")
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/experiments/NAME)")
    chosen = parser.parse_args()
    table, out = TABLES[chosen.name], chosen.out or Path("runs/experiments") / chosen.name
    seeds = range(table.SEEDS if chosen.seeds is None else chosen.seeds)
    for runs in table.stages(seeds, out):
        changed = [replace(run, overrides=(*run.overrides, *chosen.set)) for run in runs]
        train_all(changed, out, workers=chosen.workers)
    print(table.table(seeds, out))


if __name__ == "__main__":
    main()
