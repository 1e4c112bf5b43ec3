import pytest
import torch

from apelr_cli.benchmark_costs import decoding_bytes, training_flops
from apelr_model import (
    FactorizedHeadConfig,
    MixtureOfSoftmaxesConfig,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
    count_costs,
)

V, D, E, K = 30, 8, 6, 3


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (V1Config, 4),
        (V2Config, 4),
        (lambda **sizes: V2Config(num_plan_states=1, **sizes), 3),
        (MixtureOfSoftmaxesConfig, 3),
        (TransformerLMConfig, 3),
    ],
)
def test_a_step_is_three_forward_passes_and_with_beliefs_the_head_once_more(config, heads):
    model = build_model(config(token_dim=E, hidden_dim=D), V)
    flops = count_costs(model, 16).flops_per_token
    assert training_flops(model, 16) == 3 * (flops["executor"] + flops["planner"]) + heads * flops["head"]


def test_a_gru_with_experts_by_the_formulas_of_the_page():
    model = build_model(V2Config(num_plan_states=K, chunk_size=4, token_dim=E, hidden_dim=D), V)
    forward = 6 * D * (E + D) + 2 * K * V * D + 2 * (K * K + K * D) / 4
    assert training_flops(model, 16) == pytest.approx(3 * forward + 2 * K * V * D)
    assert decoding_bytes(model) == 4 * (3 * D * (E + D) + 6 * D + K * V * D + K * V)


def test_a_weight_of_half_the_size_is_half_the_bytes():
    model = build_model(V2Config(token_dim=E, hidden_dim=D, head=FactorizedHeadConfig()), V)
    assert decoding_bytes(model) == 2 * decoding_bytes(model.to(torch.bfloat16))


def test_an_embedding_is_read_whole_only_as_an_output_layer():
    sizes = {"token_dim": D, "hidden_dim": D, "executor": TransformerConfig(num_heads=2, mlp_dim=12)}
    tied = build_model(TransformerLMConfig(tie_embeddings=True, **sizes), V)
    apart = build_model(TransformerLMConfig(**sizes), V)
    assert decoding_bytes(tied) == decoding_bytes(apart)
    gate = sum(p.numel() for p in tied.planner.parameters())
    assert decoding_bytes(tied) == 4 * (sum(p.numel() for p in tied.parameters()) - gate)
