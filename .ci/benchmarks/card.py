"""one CUDA card: training of about 150 million parameters in bf16, and decoding of one row, beside its limits"""

from collections.abc import Iterator
from typing import Any

import subjects
import torch
from decoding import OneRow, compiled_rows
from measured import Row, Run, at_least, at_most

from apelr_cli.benchmark_costs import training_flops
from apelr_cli.benchmark_limits import products_of
from apelr_cli.benchmark_works import decoder_of, random_batch
from apelr_model import (
    FactorizedHeadConfig,
    PlannerLM,
    TransformerConfig,
    TransformerLMConfig,
    V2Config,
    build_model,
)

SIZES: dict[str, Any] = {
    "token_dim": 768,
    "hidden_dim": 768,
    "num_layers": 14,
    "executor": TransformerConfig(num_heads=12),
}
VOCABULARY, ROWS, TARGETS, TOKENS = 32768, 8, 2048, 64
DENSE, FACTORIZED, CONTROL = "V2 dense, K 4", "V2 factorized, K 4", "transformer_lm"
FORMS = ("fp32", "bf16")
"""What the weights are kept in, in compiled steps of one row."""
PLANS: dict[str, Any] = {"num_plan_states": 4, "chunk_size": 16}
CONFIGS = {
    DENSE: V2Config(**SIZES, **PLANS),
    FACTORIZED: V2Config(**SIZES, **PLANS, head=FactorizedHeadConfig()),
    CONTROL: TransformerLMConfig(**SIZES),
}


def rows(run: Run) -> Iterator[Row]:
    """Those of `rows_of_models`; without a card the process ends with one line."""
    if run.device.type != "cuda":
        raise SystemExit(f"the group card needs a CUDA device, got {run.device.type}: name it where there is a card")
    yield from rows_of_models(run)


def rows_of_models(run: Run) -> Iterator[Row]:
    """Shares of the limits, ratios to the control, and one row of each model."""
    models = {name: make(name).to(run.device) for name in CONFIGS}
    batch = random_batch(models[CONTROL], ROWS, TARGETS)
    flops = {name: training_flops(model, TARGETS) for name, model in models.items()}
    products = {name: products_of(model, ROWS * TARGETS, torch.bfloat16) for name, model in models.items()}
    decoded = OneRow(run.device, TOKENS, at_least(1 / 1.5))
    for name, model in models.items():
        decoded.add(f"{name}, 1 row, plain", model)
        for form in FORMS:
            decoded.add(f"{name}, 1 row, compiled, {form}", decoder_of(model, compiled=True, weights=form))
    works = {product.name: product for own in products.values() for product in own} | decoded.works
    works |= {name: subjects.steps(model, batch, precision="bf16") for name, model in models.items()}
    times = run.time(works)
    for name in CONFIGS:
        limits = {product.name: product.flops for product in products[name]}
        share = times.share_of_rate(name, ROWS * TARGETS * flops[name], limits)
        yield Row(f"{name}: of the bf16 rate", share, "%", at_least(0.45) if name == CONTROL else None)
        yield Row(f"{name}: targets a second", times.rate(name, ROWS * TARGETS), "/s")
    yield Row(f"{FACTORIZED} beside {CONTROL}: time", times.ratio(FACTORIZED, CONTROL), "x", at_most(1.25))
    ratio = flops[DENSE] / flops[CONTROL]
    title = f"{DENSE} beside {CONTROL}: ratio of times / ratio of operations ({ratio:.3g})"
    yield Row(title, times.scaled(DENSE, CONTROL, 1 / ratio), "x", at_most(1 / 0.85))
    for name in CONFIGS:
        yield from decoded.rows(times, f"{name}, 1 row, plain")
        yield from compiled_rows(times, decoded, name, FORMS)


def make(name: str) -> PlannerLM:
    """A fresh model of `CONFIGS`."""
    torch.manual_seed(0)
    return build_model(CONFIGS[name], VOCABULARY)
