"""The totals of docs/reliability.md: nox -s chaos -- NAME ..., or python .ci/chaos NAME ...; without a name all.

Nothing is asserted with a tolerance: the first run that does not end as it should ends the program, and says where.
"""

import argparse
import time
from collections.abc import Callable, Iterator

from disk import faults
from full_disk import fillings
from fuzzing import READERS, fuzz
from killed_processes import killed_processes
from kills import kills
from soak import soak

STORMS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "kills": lambda chosen: kills(chosen.points, chosen.seed),
    "processes": lambda chosen: killed_processes(chosen.points, chosen.seed),
    "disk": lambda chosen: faults(chosen.points, chosen.seed),
    "full": lambda chosen: fillings(chosen.points, chosen.seed),
    "fuzz": lambda chosen: fuzz(chosen.reader or [*READERS], chosen.inputs, chosen.seed),
    "soak": lambda chosen: soak(chosen.steps),
}


def main() -> None:
    """Run the storms and print what they came to."""
    parser = argparse.ArgumentParser(prog="nox -s chaos --", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(STORMS)} (default: all)")
    parser.add_argument("--points", type=int, default=60, help="kills of each kind, and faults for each error")
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs for each reader")
    parser.add_argument("--reader", action="append", choices=READERS, help="a reader that is fuzzed (default: all)")
    parser.add_argument("--steps", type=int, default=20_000, help="steps of the long run")
    parser.add_argument("--seed", type=int, default=0, help="chooses points, times and inputs")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - STORMS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for name in chosen.names or STORMS:
        began = time.monotonic()
        for line in STORMS[name](chosen):
            print(f"{name:<9} {line}", flush=True)
        print(f"{name:<9} took {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
