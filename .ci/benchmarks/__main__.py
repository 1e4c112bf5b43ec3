"""What docs/benchmarks.md holds: nox -s bench -- NAME…, or python .ci/benchmarks NAME….

Results go into runs/benchmarks.json, each group in place of its earlier ones; with --docs the tables of
docs/benchmarks.md are made from that file, and those of groups that it has not are left alone. Stop other programs
first, or measure with one thread and --clock processor.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

GROUPS = [
    *("limits", "training_gru", "training_transformer", "settings", "planner", "filtering", "decoding", "evaluation"),
    *("memory", "data", "startup", "growth", "card"),
]
"""Each a module of this folder, in the order of the page; card is measured where it is named."""


def main() -> None:
    """Measure groups one after the other and print their tables."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"groups, all but card if none is named: {', '.join(GROUPS)}"
    )
    parser.add_argument("--rounds", type=positive, default=7, help="rounds that are counted (default: 7)")
    parser.add_argument("--threads", type=positive, help="threads of every library (default: one a core)")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="time that counts (wall)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="default: auto")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks.json"), help="file of the results")
    parser.add_argument("--docs", action="store_true", help="put all results of the file into docs/benchmarks.md")
    parser.add_argument("--only-docs", action="store_true", help="the same, and measure nothing")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit_threads(chosen.threads or cores)
    from apelr_cli.device import resolve_device

    try:
        chosen.device = resolve_device(chosen.device).type
    except ValueError as error:
        parser.error(str(error))
    for name in [] if chosen.only_docs else chosen.names or [name for name in GROUPS if name != "card"]:
        measure(name, chosen)
    if chosen.docs or chosen.only_docs:
        import writing

        writing.fill_page(writing.read(chosen.out), GROUPS)


def positive(text: str) -> int:
    """The value of an option that counts."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text}")
    return int(text)


def limit_threads(count: int) -> None:
    """Tell every library how many threads it may start; they look before their first use."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_OFFLINE"] = "1"
    if count == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def measure(name: str, chosen: argparse.Namespace) -> None:
    """Measure one group, keep its results and print its table."""
    import torch
    import writing
    from measured import Run

    from apelr_cli.machine import describe_machine

    group = importlib.import_module(name)
    run = Run(chosen.rounds, chosen.clock, torch.device(chosen.device))
    started = time.monotonic()
    rows = []
    for row in group.rows(run):
        rows.append(row.plain())
        print(writing.line(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "about": group.__doc__,
        "command": command(name, chosen),
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_machine(run.device),
        "rounds": chosen.rounds,
        "clock": chosen.clock,
        "wall_seconds": round(time.monotonic() - started, 1),
        "rows": rows,
        "points": run.points,
        "seconds": {work: figure._asdict() for work, figure in run.seconds.items()},
    }
    writing.keep(chosen.out, name, result)
    print(writing.section(name, result), end="\n\n", flush=True)
    print(f"{name}: {result['wall_seconds']} s", file=sys.stderr)


def command(name: str, chosen: argparse.Namespace) -> str:
    """What measures the group again."""
    options = [f"--rounds {chosen.rounds}", f"--device {chosen.device}"]
    options += [f"--threads {chosen.threads}"] if chosen.threads else []
    options += [f"--clock {chosen.clock}"] if chosen.clock != "wall" else []
    return " ".join(["python .ci/benchmarks", name, *options])


if __name__ == "__main__":
    main()
