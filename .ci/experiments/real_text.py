"""Real text: a plan against mixtures of softmaxes with the same heads, and the best transformer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evaluations import evaluation
from running import PLAIN, Run, cell, markdown, mixtures, read

SEEDS = 3
RATES = (0.0015, 0.003, 0.006)
"""Learning rates that the transformer is given on seed 0; the best is then run with every seed."""
WINDOWS = ("8", "null")
"""Of the transformer: the plan's own, and everything in the row."""
LONG = ("--seq-len=2048", "--no-diagnostics")
"""Rows that begin 16 times less often: the executor begins afresh in each, the plan's belief goes on."""


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """What the transformer is like at its best on seed 0, then every seed."""
    yield [*_compared(0), *_transformers()]
    chosen = replace(_best(_transformers(), out), evaluations=(LONG,))
    yield [chosen]
    for seed in seeds[1:]:
        yield [*_compared(seed), replace(chosen, seed=seed)]


def _compared(seed: int) -> list[Run]:
    """The plan, and the mixtures."""
    controls = mixtures("mixture_of_softmaxes_python_docs", seed)
    return [
        Run("v2", "python_docs", (), seed, (*PLAIN, LONG)),
        *(replace(each, evaluations=(LONG,)) for each in controls),
    ]


def _transformers() -> list[Run]:
    return [
        Run(
            f"transformer-window-{window}-lr-{rate}",
            "transformer_lm_python_docs",
            (f"model.executor.window={window}", f"train.lr={rate}"),
        )
        for window in WINDOWS
        for rate in RATES
    ]


def _best(runs: Sequence[Run], out: Path) -> Run:
    return min(runs, key=lambda run: _nll(run.folder(out)))


def _nll(folder: Path) -> float:
    found: float = read(folder, "metrics.json")["validation"]["nll"]
    return found


def _less(name: str, plan: Sequence[float], nll: Sequence[float]) -> str:
    """A cell: the plan's NLL less a control's; empty in the plan's own row."""
    return "" if name == "v2" else cell((p - n for p, n in zip(plan, nll, strict=True)), "+.4f")


def table(seeds: Sequence[int], out: Path) -> str:
    """Plan and controls over the seeds, what the plan's NLL owes to the plan, and every transformer on seed 0."""
    names = [*(run.name for run in _compared(0)), _best(_transformers(), out).name]
    rows = []
    for name in names:
        folders = [out / f"{name}-{seed}" for seed in seeds]
        nll, plan = [_nll(folder) for folder in folders], [_nll(out / f"v2-{seed}") for seed in seeds]
        bits = [read(folder, "metrics.json")["validation"]["bits_per_byte"] for folder in folders]
        about = read(folders[0], "run.json")
        size = f"{about['parameters']['total'] / 1e6:.2f} M"
        work = f"{about['flops_per_token']['total'] / 1e6:.2f} M"
        rows.append([name, size, work, cell(nll, ".4f"), cell(bits, ".4f"), _less(name, plan, nll)])
    head = ["model", "parameters", "FLOPs a token", "nats/token", "bits/byte", "v2 less this, nats"]
    found = [evaluation(out / f"v2-{seed}") for seed in seeds]
    measures = ["plan_mi", "boundary_reset_delta_loss", "shuffled_belief_delta_loss", "planner_mask_delta_loss"]
    plans = [[name, cell((each[name] for each in found), ".4f")] for name in [*measures, "state_persistence"]]
    rare = {name: [evaluation(out / f"{name}-{seed}", *LONG)["nll"] for seed in seeds] for name in names}
    rare_rows = [[name, cell(nll, ".4f"), _less(name, rare["v2"], nll)] for name, nll in rare.items()]
    alone = [[run.name, f"{_nll(run.folder(out)):.4f}"] for run in _transformers()]
    return "\n".join(
        [
            markdown(head, rows),
            markdown(["v2, on all held-out text", "mean ± standard deviation"], plans),
            markdown(["rows of 2,048 targets", "nats/token", "v2 less this, nats"], rare_rows),
            markdown(["seed 0", "nats/token"], alone),
        ]
    )
