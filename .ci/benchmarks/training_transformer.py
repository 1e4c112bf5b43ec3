"""training steps with a transformer of 4 x 512: V2 beside its limits, its controls and a Llama of transformers"""

from collections.abc import Iterator

import subjects
import torch
from measured import Row, Run, at_least
from training_gru import beside_controls

from apelr_cli.benchmark_costs import training_flops
from apelr_cli.benchmark_limits import products_of
from apelr_cli.benchmark_works import random_batch
from apelr_cli.machine import describe_machine

NAMES = ("V2 dense", "V2 factorized", "mixture_of_softmaxes", "transformer_lm")
BF16 = "V2 dense, bf16"


def rows(run: Run) -> Iterator[Row]:
    """Shares of the limit, and ratios."""
    sizes, vocabulary, targets = subjects.TRANSFORMER, subjects.TRANSFORMER_VOCABULARY, subjects.TRANSFORMER_TARGETS
    models = {name: subjects.make(name, sizes, vocabulary, run.device) for name in NAMES}
    batch = random_batch(models["V2 dense"], subjects.TRANSFORMER_ROWS, targets)
    tokens = int(batch.lengths.sum())
    flops = {name: tokens * training_flops(model, targets) for name, model in models.items()}
    products = {name: products_of(model, tokens) for name, model in models.items()}
    other = subjects.llama(models["V2 dense"])
    works = {product.name: product for own in products.values() for product in own}
    works |= {name: subjects.steps(model, batch) for name, model in models.items()}
    works["Llama"] = subjects.optimizer_steps(other, lambda: llama_loss(other, batch.inputs, batch.targets))
    flags = describe_machine(run.device)["flags"] or ["bf16"]
    low = products_of(models["V2 dense"], tokens, torch.bfloat16) if any("bf16" in flag for flag in flags) else []
    if low:
        works |= {product.name: product for product in low}
        works[BF16] = subjects.steps(subjects.make("V2 dense", sizes, vocabulary, run.device), batch, precision="bf16")
    times = run.time(works)
    for name in NAMES:
        limits = {product.name: product.flops for product in products[name]}
        target = at_least(0.7) if name == "V2 dense" else None
        yield Row(f"{name}: of the matrix-product rate", times.share_of_rate(name, flops[name], limits), "%", target)
        yield Row(f"{name}: targets a second", times.rate(name, tokens), "/s")
    if low:
        yield Row("V2 dense in bf16: times as fast as in fp32", times.ratio("V2 dense", BF16), "x", at_least(1.6))
        low_limits = {product.name: product.flops for product in low}
        yield Row(f"{BF16}: of the bf16 rate", times.share_of_rate(BF16, flops["V2 dense"], low_limits), "%")
    yield Row("Llama: targets a second", times.rate("Llama", tokens), "/s")
    yield Row("transformer_lm beside the Llama of equal size", times.ratio("transformer_lm", "Llama"))
    yield from beside_controls(times, flops)


def llama_loss(model, inputs, targets):
    """The mean NLL, computed as ordinary programs do."""
    logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
