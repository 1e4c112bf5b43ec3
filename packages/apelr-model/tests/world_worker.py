"""Run as a program: trains small models in 1, 2 and 4 processes that talk through gloo; each writes what it found.

`python world_worker.py FOLDER` writes FOLDER/found-<processes>-<rank>.pt.
"""

import copy
import multiprocessing
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import torch._dynamo  # every optimizer imports it, which takes seconds: once for all processes
import torch.distributed as dist

from apelr_model import (
    Checkpoint,
    FactorizedHeadConfig,
    NonFiniteError,
    OptimConfig,
    StepReport,
    TokenBatch,
    Trainer,
    TransformerConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    World,
    build_model,
    evaluate,
    load_checkpoint,
    save_checkpoint,
    sharded_checkpoint,
    step_loss,
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
    "dropout": (V2Config(**SIZES, dropout=0.3), V2LossWeights(usage_balance=0.1), {}),
    "transformer": (
        V2Config(
            **{**SIZES, "token_dim": 6, "hidden_dim": 6},
            num_layers=2,
            dropout=0.1,
            executor=TransformerConfig(num_heads=1, activation_checkpointing=True),
            head=FactorizedHeadConfig(rank=2),
            future_horizon_chunks=1,
        ),
        V2LossWeights(usage_balance=0.1, future_contrastive=0.2, plan_js_div=0.1),
        {"grad_clip": 0.1},
    ),
}
MICRO_BATCHES = 4
"""Of all processes together: the same rows make a micro-batch however many processes there are."""


def make_trainer(case: str, world: World, *, sharded: bool = False, **changes: Any) -> Trainer:
    config, weights, optim = CASES[case]
    torch.manual_seed(5)
    model = build_model(config, VOCAB).to(torch.float32 if changes else torch.float64)
    parts = MICRO_BATCHES // world.size
    settings = {"lr": 0.05, "warmup_steps": 0, "max_steps": STEPS, "grad_accum_steps": parts, **optim, **changes}
    return Trainer(model, OptimConfig(**settings), weights, world=world, sharded=sharded)


LENGTHS = (12, 4, 12, 4, 8, 4, 8, 12)
"""Whole chunks, so that each row begins with one."""
SHORT = (12, 4, 12, 4, 2, 3, 1, 2)
"""The last process has no row that reaches a second chunk."""


def rows_of_step(step: int, world: World, lengths: tuple[int, ...] = LENGTHS) -> TokenBatch:
    """Rows of different lengths, so that the processes have different numbers of targets; each goes on from before."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(1, VOCAB, (ROWS, WIDTH + 1), generator=generator)
    continues = torch.ones(ROWS, dtype=torch.bool) if lengths == LENGTHS else None
    batch = TokenBatch(ids[:, :-1], ids[:, 1:], torch.tensor(lengths), None, continues)
    own = world.share(ROWS)
    return TokenBatch(*(None if part is None else part[own] for part in batch))  # type: ignore[arg-type]


def steps_of(case: str, world: World) -> dict[str, Any]:
    """The reports, the final state, and an evaluation in which a process may have nothing to read."""
    trainer = make_trainer(case, world)
    reports = [trainer.train_step(rows_of_step(step, world)) for step in range(STEPS)]
    gradients = [p.grad.untyped_storage().data_ptr() for p in trainer.model.parameters() if p.grad is not None]
    found = evaluate(trainer.model, own_batches(world), text_bytes=100, world=world)
    return {"reports": reports, "state": trainer.state_dict(), "evaluation": found, "gradients": gradients}


def own_batches(world: World) -> list[TokenBatch]:
    """Of eight rows the first process reads two batches, the second one, and others none."""
    whole = rows_of_step(9, World())._replace(continues=None)
    batches = [TokenBatch(*(p if p is None else p[rows] for p in whole)) for rows in ([0, 3], [1, 2, 4], [5, 6, 7])]
    if world.size == 1:
        return batches
    return {0: batches[:2], 1: batches[2:]}.get(world.rank, [])


def own_random_numbers(world: World) -> float:
    """What a process draws after a trainer was made."""
    make_trainer("nll", world)
    return torch.rand(1).item()


def resumed(world: World) -> list[bool]:
    """Whether a run with dropout that is taken up by other trainers makes the very same of a step, and the next one."""
    whole = make_trainer("dropout", world)
    whole.train_step(rows_of_step(0, world))
    state = copy.deepcopy(whole.state_dict())
    reports = [whole.train_step(rows_of_step(step, world)) for step in (1, 2)]
    again = make_trainer("dropout", world)
    again.load_state_dict(state)
    same = [again.train_step(rows_of_step(step, world)) == report for step, report in zip((1, 2), reports, strict=True)]
    left, right = (trainer.model.state_dict() for trainer in (whole, again))
    return [*same, all(torch.equal(value, right[name]) for name, value in left.items())]


def failure(world: World) -> tuple[str, float]:
    """What a process says when the loss is NaN in the last of them; and the loss once all is well again."""
    trainer = make_trainer("nll", world)
    good = copy.deepcopy(trainer.model.state_dict())
    if world.rank == world.size - 1:
        trainer.model.get_parameter("head.bias").data.fill_(torch.nan)
    said = "nothing"
    try:
        trainer.train_step(rows_of_step(0, world))
    except NonFiniteError as error:
        said = str(error)
    now = trainer.model.state_dict()
    assert all(torch.equal(value, now[name]) or "bias" in name for name, value in good.items())
    trainer.model.load_state_dict(good)
    return said, trainer.train_step(rows_of_step(0, world)).loss


def checkpoint_of(case: str, state: dict[str, Any]) -> Checkpoint:
    """A trainer's state as a checkpoint."""
    rest = {key: value for key, value in state.items() if key not in ("model", "step")}
    return Checkpoint(
        model_config=CASES[case][0], vocab_size=VOCAB, step=state["step"], model=state["model"], training=rest
    )


def saved_in_shards(state: dict[str, Any], world: World, folder: Path) -> list[str]:
    """What a process says of two saves at once with its steps' sums, the second of which fails in the last process."""
    run, apart, said = folder / f"run-{world.size}", world.apart(), ["nothing"] * 2
    checkpoint = checkpoint_of("v2", state)

    def write(step: int) -> None:
        try:
            save_checkpoint(run, replace(checkpoint, step=step), shards=apart)
        except (OSError, ValueError) as error:
            said[step - 3] = str(error)

    thread = Thread(target=write, args=[3])
    thread.start()
    for _ in range(20):
        world.total(torch.ones(1))
    thread.join()
    if world.rank == world.size - 1:
        sharded_checkpoint.write_tensors = full_disk
    write(4)
    return said


def sharded(case: str, world: World, folder: Path) -> dict[str, Any]:
    """As `steps_of`, with shards; a save of them, and whether another trainer makes the very same of the next step."""
    trainer = make_trainer(case, world, sharded=True)
    reports = [trainer.train_step(rows_of_step(step, world)) for step in range(STEPS)]
    whole = trainer.whole_model()
    found = evaluate(whole, own_batches(world), text_bytes=100, world=world)
    run = folder / f"sharded-{world.size}-{case}"
    save_checkpoint(run, checkpoint_of(case, trainer.state_dict()), shards=world)
    went_on = trainer.train_step(rows_of_step(STEPS, world))
    again = make_trainer(case, world, sharded=True)
    take_up(again, run)  # random numbers, too, which both draw from the same generator
    next_ones = [went_on, again.train_step(rows_of_step(STEPS, world))]
    held = sum(parameter.to_local().numel() for parameter in trainer.model.parameters())  # type: ignore[operator]
    return {
        "reports": reports,
        "model": whole.state_dict(),
        "evaluation": found,
        "next": next_ones,
        "held": held / sum(parameter.numel() for parameter in whole.parameters()),
        "moments": len(trainer.optimizer.state),
    }


def take_up(trainer: Trainer, run: Path) -> None:
    """Go on from the newest checkpoint of a folder."""
    checkpoint = load_checkpoint(run)
    trainer.load_state_dict({**(checkpoint.training or {}), "model": checkpoint.model, "step": checkpoint.step})


def next_step_after(size: int, world: World, folder: Path) -> StepReport:
    """What shards make of the next step after the checkpoint of another number of processes, waited for."""
    run = folder / f"sharded-{size}-nll"
    while not (run / "checkpoint.json").exists():
        time.sleep(0.05)
    world.wait()
    trainer = make_trainer("nll", world, sharded=True)
    take_up(trainer, run)
    return trainer.train_step(rows_of_step(STEPS, world))


def few_precise_bits(world: World) -> list[float]:
    """Losses under bf16, with shards and without."""
    trainers = [make_trainer("nll", world, sharded=each, precision="bf16") for each in (True, False)]
    return [trainer.train_step(rows_of_step(step, world)).loss for trainer in trainers for step in range(2)]


def short_rows(world: World) -> list[float]:
    """Losses and gradient norms where some parameters have a gradient in one process alone, shards and not."""
    found: list[float] = []
    for each in (True, False):
        trainer = make_trainer("v1", world, sharded=each)
        for step in range(2):
            report = trainer.train_step(rows_of_step(step, world, SHORT))
            found += [report.loss, report.grad_norm]
    return found


def failure_in_a_micro_batch(world: World) -> str:
    """What a process says when the loss of the last one's first micro-batch is no number, and shards are waited for."""
    trainer = make_trainer("nll", world, sharded=True)
    if world.rank == world.size - 1:
        step_loss.total_loss = no_number
    try:
        trainer.train_step(rows_of_step(0, world))
    except NonFiniteError as error:
        return str(error)
    return "nothing"


def no_number(*arguments: Any) -> None:
    raise NonFiniteError("no number")


def full_disk(path: Path, tensors: Any) -> None:
    raise OSError(28, "No space left on device", str(path))


def work(rank: int, size: int, folder: Path) -> None:
    """One process: all that test_world.py looks at, into a file."""
    torch.set_num_threads(1)
    if size > 1:
        store = dist.FileStore(str(folder / f"store-{size}"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=900))
    world = World(rank, size)
    cases = ("v2",) if size == 4 else ("v1", "v2", "nll", *(["transformer"] if size == 2 else []))
    found: dict[str, Any] = {case: steps_of(case, world) for case in cases}
    found["random"] = own_random_numbers(world)
    if size < 4:
        found["resumed"] = resumed(world)
    if size > 1:
        found["sharded"] = {case: sharded(case, world, folder) for case in cases if case != "v2"}
        found["next"] = next_step_after(2 if size == 4 else 1, world, folder)
        found["bf16"] = few_precise_bits(world)
        found["short"] = short_rows(world)
    else:
        save_checkpoint(folder / "sharded-1-nll", checkpoint_of("nll", found["nll"]["state"]), shards=world)
    found["saved"] = saved_in_shards(found["v2"]["state"], world, folder)
    found["failure"] = failure(world)
    found["failure in shards"] = failure_in_a_micro_batch(world) if size > 1 else "nothing"
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
