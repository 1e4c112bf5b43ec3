"""The one place that picks an executor hands every size on."""

import torch

from apelr_model.executor import GRUExecutor
from apelr_model.executor_config import GRUConfig, TransformerConfig
from apelr_model.executor_factory import build_executor
from apelr_model.transformer import TransformerExecutor

SIZES = {"vocab_size": 9, "token_dim": 4, "hidden_dim": 8, "num_layers": 3, "dropout": 0.25}


def test_a_gru_of_the_given_sizes():
    executor = build_executor(GRUConfig(), **SIZES)
    assert isinstance(executor, GRUExecutor)
    assert executor.token_emb.weight.shape == (9, 4)
    gru = executor.gru
    assert (gru.input_size, gru.hidden_size, gru.num_layers, gru.dropout) == (4, 8, 3, 0.25)
    assert set(executor.state_dict()) == {
        "token_emb.weight",
        *(f"gru.{n}" for n, _ in torch.nn.GRU(4, 8, 3).named_parameters()),
    }


def test_a_transformer_of_the_given_sizes():
    config = TransformerConfig(num_heads=2, num_kv_heads=1, mlp_dim=5)
    executor = build_executor(config, **SIZES)
    assert isinstance(executor, TransformerExecutor)
    assert executor.config is config
    assert len(executor.layers) == 3
    layer = executor.layers[0]
    assert (layer.dropout.p, layer.attention.dropout) == (0.25, 0.25)
    assert layer.attention.qkv.weight.shape == ((2 + 2 * 1) * 4, 8)
    assert (layer.mlp.gate_up.weight.shape, layer.mlp.down.weight.shape) == ((10, 8), (8, 5))
    assert executor.token_proj.weight.shape == (8, 4)
    assert build_executor(config, **{**SIZES, "token_dim": 8}).token_proj is None
