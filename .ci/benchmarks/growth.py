"""growth: time and memory of a training step, and of the filter alone, against every size"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from filtering import Case, inputs, own_works
from measured import Row, Run, Target, at_most, single
from memory import Peak, in_process, measure

from apelr_cli.benchmark_timing import Work, figure_of
from apelr_cli.benchmark_works import random_batch, training_steps
from apelr_model import OptimConfig, PlannerLM, V2Config, V2LossWeights, build_model


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
LINEAR = 1.1
FILTERED = {"T": (512, 1024, 2048, 4096), "K": (16, 32, 64, 128), "L": (1, 4, 16, 64)}
MEMORY = {"B": (8, 16, 32), "T": (256, 512, 1024), "K": (8, 16, 32), "V": (1024, 2048, 4096)}


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
            sizes = {"T": 512, "K": 16, "L": 16, axis: value}
            tensors = inputs(Case(8, sizes["T"], sizes["K"], {}), run.device)
            works[f"filter, {axis} {value}"] = own_works(*tensors, sizes["L"])["forward and backward"]
        bound = {"T": LINEAR, "K": 2.0}.get(axis)
        yield row(run, "filter", axis, values, works, None if bound is None else at_most(bound))
    for axis, values in MEMORY.items():
        peaks = [in_process(peak, asdict(replace(Sizes(), **{axis: value}))) for value in values]
        held = [found.step - found.gradients for found in peaks]
        run.points[f"memory, {axis}"] = [list(point) for point in zip(values, held, strict=True)]
        title = f"memory of a step on a CPU, gradients aside, against {axis} = {listed(values)}: exponent"
        yield Row(title, single(slope(values, held)), "")


def row(run: Run, kind: str, axis: str, values: Sequence[int], works: dict[str, Work], target: Target | None) -> Row:
    """The exponents of each round; the points are kept for the plot."""
    times = run.time(works)
    seconds = [times.seconds[f"{kind}, {axis} {value}"] for value in values]
    run.points[f"{kind}, {axis}"] = [[value, times.each(f"{kind}, {axis} {value}").median] for value in values]
    found = figure_of([slope(values, of_round) for of_round in zip(*seconds, strict=True)])
    return Row(f"time of a {kind} against {axis} = {listed(values)}: exponent", found, "", target)


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


def peak(sizes: dict[str, int]) -> Peak:
    """Memory of a second step."""
    model = model_of(Sizes(**sizes))
    step = step_of(model, Sizes(**sizes))
    step()
    return measure(step, model, "cpu")
