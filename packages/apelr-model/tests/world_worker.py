"""Run as a program: trains small models in 1, 2 and 4 processes that talk through gloo; each writes what it found.

`python world_worker.py FOLDER` writes FOLDER/found-<processes>-<rank>.pt.
"""

import multiprocessing
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from apelr_model import (
    NonFiniteError,
    OptimConfig,
    TokenBatch,
    Trainer,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    World,
    build_model,
    evaluate,
)

ROWS, WIDTH, VOCAB, STEPS = 8, 12, 11, 3
SIZES: dict[str, Any] = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 5, "hidden_dim": 7}
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "v1": (
        V1Config(**SIZES, fusion_dim=6),
        V1LossWeights(
            entropy_reg_weight=0.1,
            usage_balance_weight=0.2,
            chunk_bow_weight=0.3,
            plan_mi_weight=0.1,
            chunk_post_kl_weight=0.2,
        ),
        {},
    ),
    "v2": (
        V2Config(**SIZES, future_horizon_chunks=1),
        V2LossWeights(
            usage_balance=0.1, boundary_entropy=0.1, future_contrastive=0.2, plan_js_div=0.1, rep_unlikelihood=0.1
        ),
        {"split_interval": 2, "max_steps": 8},
    ),
    "nll": (V2Config(**SIZES), V2LossWeights(), {}),  # leaves parameters without a gradient
}
MICRO_BATCHES = 4
"""Of all processes together: the same rows make a micro-batch however many processes there are."""


def make_trainer(case: str, world: World) -> Trainer:
    config, weights, optim = CASES[case]
    torch.manual_seed(5)
    model = build_model(config, VOCAB).double()
    parts = MICRO_BATCHES // world.size
    settings = {"lr": 0.05, "warmup_steps": 0, "max_steps": STEPS, "grad_accum_steps": parts, **optim}
    return Trainer(model, OptimConfig(**settings), weights, world=world)


def rows_of_step(step: int, world: World) -> TokenBatch:
    """Rows of different lengths, so that the processes have different numbers of targets; each goes on from before."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(1, VOCAB, (ROWS, WIDTH + 1), generator=generator)
    lengths = torch.tensor([12, 4, 12, 4, 8, 4, 8, 12])  # whole chunks, so that each row begins with one
    batch = TokenBatch(ids[:, :-1], ids[:, 1:], lengths, None, torch.ones(ROWS, dtype=torch.bool))
    own = world.share(ROWS)
    return TokenBatch(*(None if part is None else part[own] for part in batch))  # type: ignore[arg-type]


def steps_of(case: str, world: World) -> dict[str, Any]:
    """The reports, the final state, and an evaluation in which a process may have nothing to read."""
    trainer = make_trainer(case, world)
    reports = [trainer.train_step(rows_of_step(step, world)) for step in range(STEPS)]
    found = evaluate(trainer.model, own_batches(world), text_bytes=100, world=world)
    return {"reports": reports, "state": trainer.state_dict(), "evaluation": found}


def own_batches(world: World) -> list[TokenBatch]:
    """Of eight rows the first process reads two batches, the second one, and others none."""
    whole = rows_of_step(9, World())._replace(continues=None)
    batches = [TokenBatch(*(p if p is None else p[rows] for p in whole)) for rows in ([0, 3], [1, 2, 4], [5, 6, 7])]
    if world.size == 1:
        return batches
    return {0: batches[:2], 1: batches[2:]}.get(world.rank, [])


def own_random_numbers(world: World) -> list[float]:
    """Drawn after a state was taken, and again after it was put back."""
    trainer = make_trainer("nll", world)
    state = trainer.state_dict()
    first = torch.rand(1).item()
    trainer.load_state_dict(state)
    return [first, torch.rand(1).item()]


def failure(world: World) -> str:
    """What a process says when the loss is NaN in the last of them."""
    trainer = make_trainer("nll", world)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    batch = rows_of_step(0, world)
    if world.rank == world.size - 1:
        trainer.model.get_parameter("head.bias").data.fill_(torch.nan)
        before.pop("head.bias")
    try:
        trainer.train_step(batch)
    except NonFiniteError as error:
        assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in before.items())
        return str(error)
    return "nothing"


def work(rank: int, size: int, folder: Path) -> None:
    """One process: all that test_world.py looks at, into a file."""
    torch.set_num_threads(1)
    if size > 1:
        store = dist.FileStore(str(folder / f"store-{size}"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    world = World(rank, size)
    found: dict[str, Any] = {case: steps_of(case, world) for case in CASES}
    found["random"] = own_random_numbers(world)
    found["failure"] = failure(world)
    torch.save(found, folder / f"found-{size}-{rank}.pt")
    if size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    folder = Path(sys.argv[1])
    processes = [context.Process(target=work, args=(rank, size, folder)) for size in (1, 2, 4) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
