"""What the planner's extras cost, as ratios of times taken in turn in one process: python .ci/planner_cost.py

Sampling with lookahead off, with each token and beside the tokens; evaluation of V2 beside the mixture of softmaxes
of the same heads, and with all diagnostics. Random weights: time does not depend on them.
"""

import itertools
import sys
import time
from collections.abc import Callable

import torch

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    PlannerLM,
    SamplingSettings,
    TokenBatch,
    V2Config,
    build_model,
    generate,
    mean_nll,
    planner_diagnostics,
)

VOCABULARY = 2048
SIZES = {"num_plan_states": 8, "token_dim": 192, "hidden_dim": 512, "num_layers": 2}
TOKENS, STEPS = 32, 8
ROUNDS = 10


def best(timed: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The least seconds of each, all taken in turn so that other work on the machine falls on all of them.

    On a CPU they are processor time: other programs then disturb them little.
    """
    found = dict.fromkeys(timed, float("inf"))
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for number, (name, run) in itertools.product(range(rounds + 1), timed.items()):
        started = clock()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number:  # the first round warms up
            found[name] = min(found[name], clock() - started)
    return found


def sampling(model: PlannerLM, rows: int, **settings: object) -> Callable[[], None]:
    """A run that draws `TOKENS` tokens in each row."""

    def run() -> None:
        drawn = generate(
            model,
            [[1, 2, 3]] * rows,
            SamplingSettings(),
            max_new_tokens=TOKENS,
            seeds=range(rows),
            **settings,  # type: ignore[arg-type]
        )
        for _ in drawn:
            pass

    return run


def show(title: str, times: dict[str, float], unit: int, of: str) -> None:
    """Times for each unit in milliseconds, and each as a ratio of the first."""
    sys.stdout.write(f"{title}\n")
    first = next(iter(times.values()))
    for name, seconds in times.items():
        sys.stdout.write(f"  {name:<28} {seconds / unit * 1000:>9.3f} ms a {of}  x {seconds / first:.3f}\n")


def main() -> None:
    """Print every ratio."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    v2 = build_model(V2Config(chunk_size=16, **SIZES), VOCABULARY).to(device).eval()
    control = build_model(MixtureOfSoftmaxesConfig(**SIZES), VOCABULARY).to(device).eval()
    sys.stdout.write(f"torch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads\n")
    for rows in (1, 8):
        lookahead = {
            "lookahead off": sampling(v2, rows),
            f"{STEPS} chunks, with the token": sampling(v2, rows, lookahead_steps=STEPS),
            f"{STEPS} chunks, beside it": sampling(v2, rows, lookahead_steps=STEPS, async_lookahead=True),
        }
        show(f"sampling, {rows} row(s), K 8, V {VOCABULARY}", best(lookahead, ROUNDS), TOKENS, "step")
    ids = torch.randint(VOCABULARY, (8, 129))
    batch = TokenBatch(ids[:, :-1], ids[:, 1:], torch.full((8,), 128)).to(device)
    evaluation = {
        "mixture_of_softmaxes, NLL": lambda: void(mean_nll(control, [batch])),
        "v2, NLL": lambda: void(mean_nll(v2, [batch])),
        "v2, all diagnostics": lambda: void(planner_diagnostics(v2, [batch])),
    }
    show("evaluation, 8 rows of 128 targets", best(evaluation, 5), 8 * 128, "target")


def void(_: object) -> None:
    """Drop a result."""


if __name__ == "__main__":
    main()
