"""The models that are measured, and the others that stand beside them."""

from collections.abc import Callable
from typing import Any

import torch

from apelr_cli.benchmark_timing import Work
from apelr_cli.benchmark_works import training_steps
from apelr_model import (
    FactorizedHeadConfig,
    MixtureOfSoftmaxesConfig,
    NoLossWeights,
    OptimConfig,
    PlannerLM,
    TokenBatch,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    build_model,
)

GRU: dict[str, Any] = {"token_dim": 192, "hidden_dim": 512, "num_layers": 2}
GRU_VOCABULARY, GRU_ROWS, GRU_TARGETS = 2048, 8, 128
TRANSFORMER: dict[str, Any] = {
    "token_dim": 512,
    "hidden_dim": 512,
    "num_layers": 4,
    "executor": TransformerConfig(num_heads=8),
}
TRANSFORMER_VOCABULARY, TRANSFORMER_ROWS, TRANSFORMER_TARGETS = 4096, 8, 256
SETTINGS: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "GRU": (GRU, GRU_VOCABULARY, GRU_ROWS, GRU_TARGETS),
    "transformer": (TRANSFORMER, TRANSFORMER_VOCABULARY, TRANSFORMER_ROWS, TRANSFORMER_TARGETS),
}
"""Sizes of each executor, its vocabulary, and rows and targets of a batch."""
PLANS: dict[str, Any] = {"num_plan_states": 8, "chunk_size": 16}

CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "V1": lambda sizes: V1Config(fusion_dim=384, **PLANS, **sizes),
    "V2 dense": lambda sizes: V2Config(**PLANS, **sizes),
    "V2 factorized": lambda sizes: V2Config(head=FactorizedHeadConfig(), **PLANS, **sizes),
    "mixture_of_softmaxes": lambda sizes: MixtureOfSoftmaxesConfig(num_plan_states=PLANS["num_plan_states"], **sizes),
    "transformer_lm": lambda sizes: TransformerLMConfig(**sizes),
}
"""Every version at given sizes of the executor; K = 8, chunks of 16."""


def make(name: str, sizes: dict[str, Any], vocabulary: int, device: torch.device) -> PlannerLM:
    """A fresh model of `CONFIGS`."""
    torch.manual_seed(0)
    return build_model(CONFIGS[name](sizes), vocabulary).to(device)


def steps(model: PlannerLM, batch: TokenBatch, **optim: Any) -> Work:
    """Optimizer steps on the NLL alone, as `apelr train` makes them by default; `optim` are fields that differ."""
    weights = {V1Config: V1LossWeights(), V2Config: V2LossWeights()}.get(type(model.config), NoLossWeights())
    return training_steps(model, OptimConfig(**optim), weights, batch)  # type: ignore[arg-type]


def llama(model: PlannerLM, *, layers: int | None = None) -> Any:
    """A Llama of `transformers` with the sizes of a transformer executor, and with its own number of layers if given.

    Its parameters are then those of `transformer_lm`, less a bias.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    own, executor = model.config, model.config.executor
    assert isinstance(executor, TransformerConfig), "a Llama has no other executor"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=model.vocab_size,
        hidden_size=own.hidden_dim,
        intermediate_size=executor.mlp_width(own.hidden_dim),
        num_hidden_layers=layers or own.num_layers,
        num_attention_heads=executor.num_heads,
        num_key_value_heads=executor.num_kv_heads or executor.num_heads,
        tie_word_embeddings=False,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(model.device)


def llama_as_large_as(model: PlannerLM) -> Any:
    """A Llama of the same widths with as many layers as bring it nearest to the model's number of parameters."""
    wanted = count(model)
    one, two = (count(llama(model, layers=layers)) for layers in (1, 2))
    return llama(model, layers=max(1, round(1 + (wanted - one) / (two - one))))


def count(module: torch.nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def optimizer_steps(module: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Work:
    """Steps of another library's module with what ours have: AdamW, the gradient clipped."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    return step
