"""growth: time and memory of a training step, and of the filter alone, against every size"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from filtering import Case, inputs, own_works
from measured import Row, Run, Target, at_most, single

from apelr_cli.benchmark_timing import Work, figure_of
from apelr_cli.benchmark_works import random_batch, training_steps
from apelr_cli.live_memory import LiveMemory
from apelr_model import OptimConfig, PlannerLM, Trainer, V2Config, V2LossWeights, build_model


@dataclass(frozen=True)
class Sizes:
    """A V2 with dense heads on a GRU of 128, and its batch."""

    B: int = 4
    T: int = 128
    K: int = 8
    V: int = 1024
    L: int = 16


GROWING = {"B": (4, 8, 16, 32), "T": (128, 256, 512, 1024), "K": (4, 8, 16, 32), "V": (512, 1024, 2048, 4096)}
GROWING |= {"L": (2, 8, 32, 128)}
LINEAR, QUADRATIC = 1.1, 2.1
FILTERED = {"T": (512, 1024, 2048, 4096), "K": (128, 256, 512, 1024), "L": (1, 4, 16, 64)}
FILTERED_SIZES = {"T": {"K": 16, "L": 16}, "K": {"T": 32, "L": 1}, "L": {"T": 512, "K": 16}}
"""The other sizes. With many states and a boundary at every target the products with K x K take most of the time."""
MEMORY = {"B": (8, 16, 32), "T": (256, 512, 1024), "K": (8, 16, 32, 64), "V": (1024, 2048, 4096), "L": (2, 8, 32, 128)}


def rows(run: Run) -> Iterator[Row]:
    """Exponents: the slope of the logarithms over the points, by least squares. Memory is the CPU's on any device."""
    for axis, values in GROWING.items():
        works = {}
        for value in values:
            sizes = replace(Sizes(), **{axis: value})
            works[f"step, {axis} {value}"] = step_of(model_of(sizes).to(run.device), sizes)
        target = at_most(LINEAR) if axis in "TKBV" else None
        yield row(run, "step", axis, values, works, target)
    for axis, values in FILTERED.items():
        works = {}
        for value in values:
            sizes = {**FILTERED_SIZES[axis], axis: value}
            tensors = inputs(Case(8, sizes["T"], sizes["K"], {}), run.device)
            works[f"filter, {axis} {value}"] = own_works(*tensors, sizes["L"])["forward and backward"]
        bound = {"T": LINEAR, "K": QUADRATIC}.get(axis)
        target = None if bound is None else at_most(bound)
        others = ", ".join(f"{name} {size}" for name, size in FILTERED_SIZES[axis].items())
        yield row(run, "filter", axis, values, works, target, f" with {others}")
    for axis, values in MEMORY.items():
        held = [live_bytes(replace(Sizes(), **{axis: value})) for value in values]
        run.points[f"memory, {axis}"] = [list(point) for point in zip(values, held, strict=True)]
        title = f"memory of a step's live tensors, gradients in, against {axis} = {listed(values)}: exponent"
        yield Row(title, single(slope(values, held)), "")


def row(
    run: Run,
    kind: str,
    axis: str,
    values: Sequence[int],
    works: dict[str, Work],
    target: Target | None,
    others: str = "",
) -> Row:
    """The exponents of each round; the points are kept for the plot."""
    times = run.time(works)
    seconds = [times.seconds[f"{kind}, {axis} {value}"] for value in values]
    run.points[f"{kind}, {axis}"] = [[value, times.each(f"{kind}, {axis} {value}").median] for value in values]
    found = figure_of([slope(values, of_round) for of_round in zip(*seconds, strict=True)])
    return Row(f"time of a {kind}{others} against {axis} = {listed(values)}: exponent", found, "", target)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """b of value = a size^b, by least squares on the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def listed(values: Sequence[int]) -> str:
    """As a title has them."""
    return ", ".join(map(str, values))


def model_of(sizes: Sizes) -> PlannerLM:
    """A fresh model."""
    torch.manual_seed(0)
    config = V2Config(num_plan_states=sizes.K, chunk_size=sizes.L, token_dim=64, hidden_dim=128)
    return build_model(config, sizes.V)


def step_of(model: PlannerLM, sizes: Sizes) -> Work:
    """Its training step."""
    return training_steps(model, OptimConfig(), V2LossWeights(), random_batch(model, sizes.B, sizes.T))


def live_bytes(sizes: Sizes) -> int:
    """The most that tensors take at once in a second step, gradients in, parameters and optimizer left out."""
    model = model_of(sizes)
    trainer, batch = Trainer(model, OptimConfig(), V2LossWeights()), random_batch(model, sizes.B, sizes.T)
    trainer.train_step(batch)
    trainer.optimizer.zero_grad(set_to_none=True)
    moments = [each for state in trainer.optimizer.state.values() for each in state.values()]
    with LiveMemory([*model.parameters(), *model.buffers(), *moments]) as live:
        trainer.train_step(batch)
    return live.peak
