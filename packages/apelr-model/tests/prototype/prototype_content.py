"""Checkpoints in the prototype's format, made from scratch by the table of its tensors."""

from typing import Any

import torch

FIELDS = {"vocab_size": 11, "num_plan_states": 3, "chunk_size": 4, "token_dim": 5, "hidden_dim": 7, "num_layers": 2}
SHARED = {"dropout": 0.1, "planner_context_scale": 1.5, "planner_self_bias": 1.8, "eps": 1e-9}
V2_FIELDS = {
    **{"future_horizon_chunks": 2, "planner_temperature": 1.0, "token_filtering": True},
    **{"lookahead_horizon": 2, "lookahead_feedback_scale": 0.25, "async_planner": True},
}


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def shapes_of(config: dict[str, Any], version: int) -> dict[str, tuple[int, ...]]:
    V, K, E, D = (config[name] for name in ("vocab_size", "num_plan_states", "token_dim", "hidden_dim"))
    gru = {}
    for layer in range(config["num_layers"]):
        gru[f"backbone.weight_ih_l{layer}"] = (3 * D, E if layer == 0 else D)
        gru[f"backbone.weight_hh_l{layer}"] = (3 * D, D)
        gru[f"backbone.bias_ih_l{layer}"] = (3 * D,)
        gru[f"backbone.bias_hh_l{layer}"] = (3 * D,)
    planner = {"planner_init_logits": (K,), "planner_transition_logits": (K, K)}
    if version == 1:
        F = config["fusion_dim"]
        return {
            "plan_vocab_bias": (K, V),
            **planner,
            "token_emb.weight": (V, E),
            **gru,
            "plan_emb.weight": (K, F),
            **linear("state_proj", F, D),
            "plan_proj.weight": (F, F),
            **linear("out_proj", V, F),
            **linear("planner_ctx_proj", K, D),
            **linear("chunk_post_proj", K, D),
        }
    heads = {name: shape for k in range(K) for name, shape in linear(f"expert_heads.{k}", V, D).items()}
    evidence = {**linear("planner_obs_proj", K, D), **linear("planner_boundary_proj", K, D)}
    last = {"plan_state_emb.weight": (K, D), "future_chunk_proj.weight": (D, D)}
    return {**planner, "token_emb.weight": (V, E), **gru, **evidence, **heads, **last}


def prototype_content(
    version: int = 1, *, seed: int = 0, dtype: torch.dtype = torch.float32, metadata: bool = True, **fields: Any
) -> dict[str, Any]:
    """The content of a file of version 1 or 2. With metadata it has the keys of newer files."""
    config = {**FIELDS, **({"fusion_dim": 6} if version == 1 else V2_FIELDS), **SHARED, **fields}
    if version == 2:
        config.setdefault("num_experts", config["num_plan_states"])
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in shapes_of(config, version).items()
    }
    content = {
        "model_state_dict": tensors,
        "model_config": config,
        "tokenizer_path": "runs/old/tokenizer.json",
        "train_config": {"seed": 1, "train": {"seq_len": 48}},
    }
    if not metadata:
        return content
    moments = {
        index: {
            "step": torch.tensor(60.0),
            "exp_avg": torch.randn(tensor.shape, generator=generator).to(dtype),
            "exp_avg_sq": torch.rand(tensor.shape, generator=generator).to(dtype),
        }
        for index, tensor in enumerate(tensors.values())
    }
    group = {"lr": 0.005, "betas": (0.9, 0.999), "eps": 1e-8, "params": list(range(len(tensors)))}
    return content | {
        "config_schema_version": 2,
        "model_version": {1: "v1_filtered_mixture", 2: "v2_planner_required"}[version],
        "optimizer_state_dict": {"state": moments, "param_groups": [group]},
        "global_step": 60,
        "tokenizer_hash": "0" * 64,
        "tokenizer_type": "char",
        "tokenizer_config": {},
    }
