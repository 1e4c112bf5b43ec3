"""training steps with a GRU of 2 x 512: V1 and V2 beside their limits, their controls and a loop over tokens"""

from collections.abc import Iterator

import subjects
from measured import Row, Run, at_least, at_most
from reference import reference_nll

from apelr_cli.benchmark_costs import training_flops
from apelr_cli.benchmark_limits import products_of
from apelr_cli.benchmark_works import random_batch

PROTOTYPE = {"V1": 230, "V2 dense": 570}
"""Targets a second that a program which loops over tokens reaches on two cores."""


def rows(run: Run) -> Iterator[Row]:
    """Shares of the limit, and ratios."""
    models = {n: subjects.make(n, subjects.GRU, subjects.GRU_VOCABULARY, run.device) for n in subjects.CONFIGS}
    batch = random_batch(models["V1"], subjects.GRU_ROWS, subjects.GRU_TARGETS)
    tokens = int(batch.lengths.sum())
    flops = {n: tokens * training_flops(m, subjects.GRU_TARGETS) for n, m in models.items()}
    products = {name: products_of(model, tokens) for name, model in models.items()}
    works = {product.name: product for own in products.values() for product in own}
    works |= {name: subjects.steps(model, batch) for name, model in models.items()}
    for name in PROTOTYPE:
        looped = subjects.make(name, subjects.GRU, subjects.GRU_VOCABULARY, run.device)
        works[f"loop over tokens, {name}"] = subjects.optimizer_steps(
            looped, lambda looped=looped: reference_nll(looped, batch.inputs, batch.targets).mean()
        )
    times = run.time(works)
    for name in models:
        limits = {product.name: product.flops for product in products[name]}
        target = at_least(0.6) if name in PROTOTYPE else None
        yield Row(f"{name}: of the matrix-product rate", times.share_of_rate(name, flops[name], limits), "%", target)
        yield Row(f"{name}: targets a second", times.rate(name, tokens), "/s")
    for name, known in PROTOTYPE.items():
        loop = f"loop over tokens, {name}"
        yield Row(f"{name} beside a loop over tokens: times as fast", times.ratio(loop, name))
        yield Row(f"the loop of {name}: targets a second", times.rate(loop, tokens), "/s", at_least(known / 1.3))
    yield from beside_controls(times, flops)


def beside_controls(times, flops) -> Iterator[Row]:
    """Time against work, both beside `transformer_lm`; V2 beside the mixture of the same heads."""
    plain = "transformer_lm"
    for name in [n for n in ("V1", "V2 dense") if n in flops]:
        title = f"{name} beside {plain}: ratio of times / ratio of operations ({flops[name] / flops[plain]:.2f})"
        target = at_most(1.1) if name == "V2 dense" else None
        yield Row(title, times.scaled(name, plain, flops[plain] / flops[name]), "x", target)
    yield Row(f"V2 factorized beside {plain}", times.ratio("V2 factorized", plain), "x", at_most(1.25))
    yield Row("V2 dense beside mixture_of_softmaxes", times.ratio("V2 dense", "mixture_of_softmaxes"))
