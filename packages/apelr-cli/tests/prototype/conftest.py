"""Checkpoints and tokenizers in the prototype's format, made from scratch."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

V1, V2 = "v1_filtered_mixture", "v2_planner_required"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
SIZES = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 5, "hidden_dim": 7, "num_layers": 1, "dropout": 0.1}
PLANNER = {"planner_self_bias": 1.5, "eps": 1e-9}
LOOKAHEAD = {"lookahead_horizon": 2, "lookahead_feedback_scale": 0.25, "async_planner": True}
OF_V2 = {"num_experts": 3, "future_horizon_chunks": 2, "planner_temperature": 1.0, "token_filtering": True, **LOOKAHEAD}


def char_text() -> str:
    """The prototype's character tokenizer: special tokens, then the sorted characters."""
    return json.dumps({"itos": [*SPECIAL, *sorted(" .,abcdefghilmnorstuy")]}, indent=2)


def bpe_text() -> str:
    """A byte-level BPE tokenizer as the `tokenizers` library writes it: NFKC, a few letters, two merges."""
    tokens = [*SPECIAL, *"Ġ.,abcdefghilmnorstuy", "th", "the"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": False, "byte_fallback": False}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags} for i, token in enumerate(SPECIAL)],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            **model,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [["t", "h"], ["th", "e"]],
        },
    }
    return json.dumps(document, ensure_ascii=False)


def tensors(version: str, vocab_size: int) -> dict[str, torch.Tensor]:
    K, E, D, F, V = 3, 5, 7, 6, vocab_size
    shapes: dict[str, tuple[int, ...]] = {"planner_init_logits": (K,), "planner_transition_logits": (K, K)}
    shapes |= {"token_emb.weight": (V, E), "backbone.weight_ih_l0": (3 * D, E), "backbone.weight_hh_l0": (3 * D, D)}
    shapes |= {"backbone.bias_ih_l0": (3 * D,), "backbone.bias_hh_l0": (3 * D,)}
    if version == V1:
        linear = {"state_proj": (F, D), "out_proj": (V, F), "planner_ctx_proj": (K, D), "chunk_post_proj": (K, D)}
        shapes |= {"plan_vocab_bias": (K, V), "plan_emb.weight": (K, F), "plan_proj.weight": (F, F)}
    else:
        linear = {"planner_boundary_proj": (K, D), "planner_obs_proj": (K, D)}
        linear |= {f"expert_heads.{k}": (V, D) for k in range(K)}
        shapes |= {"plan_state_emb.weight": (K, D), "future_chunk_proj.weight": (D, D)}
    shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    generator = torch.Generator().manual_seed(0)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def make_prototype(tmp_path: Path) -> Callable[..., Path]:
    """Saves a prototype's file and, under `tokenizer_name`, its tokenizer beside it; gives the file's path.

    `change(content)` may change the content before it is saved.
    """

    def make(
        version: str = V1,
        kind: str = "char",
        *,
        metadata: bool = True,
        tokenizer_name: str | None = "tokenizer.json",
        context_scale: float = 1.0,
        change: Callable[[dict[str, Any]], Any] = lambda content: None,
    ) -> Path:
        folder = tmp_path / "old"
        folder.mkdir(exist_ok=True)
        text = char_text() if kind == "char" else bpe_text()
        if tokenizer_name:
            (folder / tokenizer_name).write_text(text, encoding="utf-8")
        vocab_size = 25 if kind == "char" else 27
        state = tensors(version, vocab_size)
        planner = {**PLANNER, "planner_context_scale": context_scale}
        config = {"vocab_size": vocab_size, **SIZES, **planner, **({"fusion_dim": 6} if version == V1 else OF_V2)}
        content: dict[str, Any] = {
            "model_state_dict": state,
            "model_config": config,
            "tokenizer_path": "runs/long/gone/tokenizer.json",
            "train_config": {"seed": 1},
        }
        if metadata:
            moments = {
                i: {"step": torch.tensor(60.0), "exp_avg": torch.zeros_like(t), "exp_avg_sq": torch.ones_like(t)}
                for i, t in enumerate(state.values())
            }
            content |= {
                "config_schema_version": 2,
                "model_version": version,
                "optimizer_state_dict": {"state": moments, "param_groups": [{"params": list(moments)}]},
                "global_step": 60,
                "tokenizer_hash": hashlib.sha256(text.encode()).hexdigest(),
                "tokenizer_type": kind,
                "tokenizer_config": {},
            }
        change(content)
        torch.save(content, folder / "checkpoint.pt")
        return folder / "checkpoint.pt"

    return make
