"""What each of the planner's options is worth on real text: one thing changed, beside states' biases of 0.5 nats."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluations import evaluation
from running import PLAIN, Run, cell, markdown, read

SEEDS = 1
BASE = ("model.head.init_std=0.5",)
"""What all variants differ in from configs/python_docs.yaml: with these biases they were measured."""
CHANGES = {
    "init_std 0.5": (),
    "init_std 0.02": ("model.head.init_std=0.02",),
    "init_std 0.1": ("model.head.init_std=0.1",),
    "init_std 0.3, the recipe": ("model.head.init_std=0.3",),
    "K = 8": ("model.num_plan_states=8",),
    **{
        f"K = 8, dense experts of equal size, init_spread {spread}": (
            *("model.num_plan_states=8", "model.head=null", f"model.head.init_spread={spread}"),
            *("model.hidden_dim=88", "model.token_dim=88"),
        )
        for spread in (0.1, 0.3, 1)
    },
    "rows in order": ("data.order=contiguous",),
    "belief carried in training": ("data.order=contiguous", "train.carry_belief=true"),
    "chunks of 16": ("model.chunk_size=16",),
    "no window": ("model.executor.window=null",),
    "planner_lr_scale 1": ("train.planner_lr_scale=1",),
    "K = 128": ("model.num_plan_states=128",),
    "planner_self_bias 0": ("model.planner_self_bias=0",),
    "boundary evidence": ("model.boundary_evidence=true",),
    "temperature from 2 to 1": ("model.plan_temperature_start=2", "model.plan_temperature_end=1"),
    "gumbel_st after 100 steps": ("model.plan_commitment=gumbel_st", "model.commitment_warmup_steps=100"),
    "lookahead feedback 0.1": ("model.lookahead_feedback_scale=0.1",),
    "split_interval 50": ("train.split_interval=50",),
    "usage_balance 0.1": ("train.loss_weights.usage_balance=0.1",),
    "future_contrastive 0.1": ("model.future_horizon_chunks=2", "train.loss_weights.future_contrastive=0.1"),
}
"""Name of each variant, and what else differs."""


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """All at once."""
    yield [_run(name, seed) for name in CHANGES for seed in seeds]


def _run(name: str, seed: int) -> Run:
    folder = name.replace(" = ", "-").replace(", ", "-").replace(" ", "-")
    return Run(folder, "python_docs", (*BASE, *CHANGES[name]), seed, PLAIN)


def table(seeds: Sequence[int], out: Path) -> str:
    """NLL and what it owes to the plan."""
    measures = ("plan_mi", "boundary_reset_delta_loss", "shuffled_belief_delta_loss", "state_persistence")
    rows = []
    for name in CHANGES:
        folders = [_run(name, seed).folder(out) for seed in seeds]
        nll = [read(folder, "metrics.json")["validation"]["nll"] for folder in folders]
        found = [evaluation(folder) for folder in folders]
        rows.append([name, cell(nll, ".4f"), *(cell((each[key] for each in found), ".3f") for key in measures)])
    return markdown(["", "nats/token", "plan MI", "boundary reset", "shuffled belief", "state stays"], rows)
