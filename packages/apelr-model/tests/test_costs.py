import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
    count_costs,
)

SIZES = {"token_dim": 16, "hidden_dim": 16, "executor": TransformerConfig(num_heads=2)}
CONFIGS = [
    V1Config(**SIZES, num_plan_states=4, chunk_size=8, fusion_dim=12),
    V1Config(**SIZES, num_plan_states=4, chunk_size=8, fusion_dim=16, tie_embeddings=True),
    V2Config(**SIZES, num_plan_states=4, chunk_size=8),
    TransformerLMConfig(**SIZES),
    TransformerLMConfig(**SIZES, tie_embeddings=True),
    MixtureOfSoftmaxesConfig(**SIZES, num_plan_states=4),
]
IDS = ["v1", "v1 tied", "v2", "transformer_lm", "transformer_lm tied", "mixture_of_softmaxes"]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_parts_add_up_to_the_model_and_count_tied_weights_once(config):
    model = build_model(config, 30)
    costs = count_costs(model, 8)
    assert list(costs.parameters) == list(costs.flops_per_token) == ["executor", "planner", "head"]
    assert sum(costs.parameters.values()) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_operations_of_head_and_gate_are_those_that_torch_counts(config):
    """The filter's own products are K x K a chunk and none that torch counts; the reading of the text is."""
    model = build_model(config, 30).eval()
    costs = count_costs(model, 8)
    hidden = torch.randn(24, 16)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.head(hidden)
    once = 2 * config.num_plan_states * config.fusion_dim**2 if isinstance(config, V1Config) else 0
    assert counter.get_total_flops() - once == 24 * costs.flops_per_token["head"]
    states = getattr(config, "num_plan_states", 1)
    if hasattr(config, "chunk_size"):
        assert costs.flops_per_token["planner"] == 2 * (states**2 + states * 16) / 8
    else:
        assert costs.flops_per_token["planner"] == (2 * states * 16 if states > 1 else 0)


def test_a_planner_without_evidence_reads_no_text():
    config = V2Config(**SIZES, num_plan_states=4, chunk_size=8, boundary_evidence=False)
    assert count_costs(build_model(config, 30), 8).flops_per_token["planner"] == 2 * 16 / 8


@pytest.mark.parametrize("window", [None, 3])
def test_a_row_costs_what_its_tokens_do_one_by_one(window):
    executor = TransformerConfig(num_heads=2, window=window)
    model = build_model(TransformerLMConfig(token_dim=16, hidden_dim=16, executor=executor), 30)
    alone = [model.executor.flops_per_token(t) for t in range(1, 9)]
    assert count_costs(model, 8).flops_per_token["executor"] == sum(alone) / 8 < alone[-1]
