"""`apelr bench`: how fast a model is on this machine, beside what the machine can do and beside its own control."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from apelr_cli.benchmark_costs import decoding_bytes, training_flops
from apelr_cli.benchmark_limits import LARGE_READ, memory_reads, products_of
from apelr_cli.benchmark_timing import Figure, Times, Work, time_in_turn
from apelr_cli.benchmark_works import (
    control_of,
    decoder_of,
    decoding,
    evaluation,
    planner_part,
    random_batch,
    training_steps,
)
from apelr_cli.machine import describe_machine
from apelr_cli.train_config import TrainConfig
from apelr_model import NoLossWeights, PlannerLM, TransformerLMConfig, count_costs

__all__ = ["DECODED", "MANY_ROWS", "ModelBenchmark", "benchmark_model"]

DECODED = 16
"""Tokens that one call of decoding draws in each row."""
MANY_ROWS = 32
"""Rows of decoding in a batch."""
LEAST_SECONDS = 0.05
"""A work that is faster is called several times in a round."""


@dataclass(frozen=True, kw_only=True)
class ModelBenchmark:
    """What was measured, and on what."""

    about: dict[str, Any]
    """The model, the sizes of the works, and the machine."""
    figures: dict[str, Figure | None]
    """Medians with quartiles by name; None for what the model has not."""
    peak_training_memory_bytes: int | None
    """The most that torch held on a CUDA device during a training step; None elsewhere."""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        figures = {name: None if figure is None else figure._asdict() for name, figure in self.figures.items()}
        return {**self.about, "figures": figures, "peak_training_memory_bytes": self.peak_training_memory_bytes}


def benchmark_model(
    model: PlannerLM,
    train: TrainConfig,
    *,
    rounds: int,
    step: int = 0,
    compiled: bool = False,
    weights: Literal["fp32", "bf16", "int8"] = "fp32",
    timer: Callable[..., Times] = time_in_turn,
) -> ModelBenchmark:
    """Time a model's works in turn, `rounds` times; the steps change its parameters, and go on after `step` others.

    Batches have `train.batch_size` rows of `train.seq_len` targets; ids are drawn evenly. Decoding is
    `compiled` and with `weights` in fewer bits if wanted. Raises ValueError for a batch size of auto, where the
    precision cannot be had on the model's device, and for an executor that cannot be compiled.
    """
    decoder = decoder_of(model, compiled=compiled, weights=weights)
    batch = random_batch(model, train.rows_per_step, train.seq_len)
    tokens = int(batch.lengths.sum())
    products = products_of(model, tokens, train.dtype)
    exact = products_of(model, tokens)  # an evaluation computes in float32
    reads = [read for size in (LARGE_READ, decoding_bytes(decoder)) for read in memory_reads(size, device=model.device)]
    works: dict[str, Work] = {
        **{product.name: product for product in (*products, *exact)},
        **{read.name: read for read in reads},
        "training": training_steps(model, train, train.weights, batch, step=step),
        "evaluation": evaluation(model, batch),
        "decoding 1": decoding(decoder, 1, DECODED),
        f"decoding {MANY_ROWS}": decoding(decoder, MANY_ROWS, DECODED),
    }
    control = None if isinstance(model.config, TransformerLMConfig) else control_of(model)
    if control is not None:
        works["control"] = training_steps(control, train, NoLossWeights(), batch)
        works["planner"] = planner_part(model, train, batch, step=step)
    about = _about(model, train, control, decoder)
    times = timer(works, rounds=rounds, least_seconds=LEAST_SECONDS, device=model.device)
    figures = _figures(
        times,
        tokens=tokens,
        flops=tokens * about["training_flops_per_token"],
        evaluation_flops=tokens * sum(count_costs(model, train.seq_len).flops_per_token.values()),
        weights=about["decoding_bytes_per_token"],
        products={product.name: product.flops for product in products},
        exact={product.name: product.flops for product in exact},
        reads={read.name: read.bytes for read in reads},
    )
    settings = {"rounds": rounds, "compile": compiled, "weights": weights}
    return ModelBenchmark(
        about={**about, **settings, "machine": describe_machine(model.device)},
        figures=figures,
        peak_training_memory_bytes=_peak_memory(works["training"], model.device),
    )


def _figures(
    times: Times,
    *,
    tokens: int,
    flops: float,
    evaluation_flops: float,
    weights: int,
    products: dict[str, float],
    exact: dict[str, float],
    reads: dict[str, float],
) -> dict[str, Figure | None]:
    one, many = "decoding 1", f"decoding {MANY_ROWS}"
    planned = "planner" in times.seconds
    return {
        "matrix_product_flops_per_second": times.best_rate(products),
        "memory_bytes_per_second": times.best_rate(reads),
        "training_tokens_per_second": times.rate("training", tokens),
        "training_share_of_matrix_product_rate": times.share_of_rate("training", flops, products),
        "training_ratio_to_transformer_lm": times.ratio("training", "control") if planned else None,
        "planner_share_of_training": times.ratio("planner", "training") if planned else None,
        "evaluation_tokens_per_second": times.rate("evaluation", tokens),
        "evaluation_share_of_matrix_product_rate": times.share_of_rate("evaluation", evaluation_flops, exact),
        "decoding_tokens_per_second": times.rate(one, DECODED),
        "decoding_share_of_bandwidth_bound": times.share_of_rate(one, DECODED * weights, reads),
        "batch_decoding_tokens_per_second": times.rate(many, MANY_ROWS * DECODED),
        "batch_decoding_ratio": times.scaled(one, many, MANY_ROWS),
    }


def _about(model: PlannerLM, train: TrainConfig, control: PlannerLM | None, decoder: PlannerLM) -> dict[str, Any]:
    flops = training_flops(model, train.seq_len)
    return {
        "model_version": model.config.version,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocab_size": model.vocab_size,
        "batch_size": train.rows_per_step,
        "seq_len": train.seq_len,
        "precision": train.precision,
        "training_flops_per_token": flops,
        "training_flops_ratio_to_transformer_lm": (
            None if control is None else flops / training_flops(control, train.seq_len)
        ),
        "decoding_bytes_per_token": decoding_bytes(decoder),
    }


def _peak_memory(step: Work, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return int(torch.cuda.max_memory_allocated(device))
