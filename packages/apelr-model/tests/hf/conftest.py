"""Models of every version as transformers has them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from apelr_model import (
    Checkpoint,
    FactorizedHeadConfig,
    GRUConfig,
    MixtureOfSoftmaxesConfig,
    PlannerLM,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
)

TRANSFORMER = TransformerConfig(num_heads=2, num_kv_heads=1, mlp_dim=12)
WINDOW = TransformerConfig(num_heads=2, mlp_dim=12, window=3)
VERSIONS = {
    "V1, GRU": {"kind": V1Config, "executor": GRUConfig()},
    "V1, transformer, tied": {"kind": V1Config, "executor": TRANSFORMER, "tie_embeddings": True, "fusion_dim": 8},
    "V2 dense, window": {"kind": V2Config, "executor": WINDOW},
    "V2 factorized, GRU": {"kind": V2Config, "executor": GRUConfig(), "head": FactorizedHeadConfig(rank=2)},
    "V2 as a policy": {
        "kind": V2Config,
        "executor": TRANSFORMER,
        "lookahead_feedback_scale": 0.4,
        "planner_temperature": 0.7,
    },
    "V2, chunks of one": {"kind": V2Config, "executor": TRANSFORMER, "chunk_size": 1},
    "plain, tied": {"kind": TransformerLMConfig, "executor": TRANSFORMER, "tie_embeddings": True},
    "mixture of softmaxes": {"kind": MixtureOfSoftmaxesConfig, "executor": GRUConfig()},
}


@pytest.fixture(params=VERSIONS)
def ours(request: pytest.FixtureRequest, make_model: Callable[..., PlannerLM]) -> PlannerLM:
    """A small model of each version, with each executor; in double precision."""
    return make_model(**{"token_dim": 8, "hidden_dim": 8, "num_layers": 2, **VERSIONS[request.param]})


@pytest.fixture
def planner(make_model: Callable[..., PlannerLM]) -> PlannerLM:
    """V2 alone, for what does not depend on the version."""
    return make_model(kind=V2Config, token_dim=8, hidden_dim=8, executor=TRANSFORMER)


@pytest.fixture(scope="session")
def checkpoint_of() -> Callable[[PlannerLM], Checkpoint]:
    def make(model: PlannerLM) -> Checkpoint:
        return Checkpoint(model_config=model.config, vocab_size=model.vocab_size, step=7, model=model.state_dict())

    return make


@pytest.fixture(scope="session")
def as_transformers(checkpoint_of: Callable[[PlannerLM], Checkpoint]) -> Callable[..., Any]:
    """The same model as transformers has it; ids 0, 1, 2 pad, begin and end."""

    def make(model: PlannerLM) -> Any:
        from apelr_model.hf import ApelrForCausalLM

        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        return ApelrForCausalLM.from_checkpoint(checkpoint_of(model), **special).to(model.device)

    return make


@pytest.fixture(scope="session")
def padded() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Rows of ids side by side, padded at the left or the right -> ids and mask."""

    def make(rows: list[list[int]], side: str = "left") -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            start = width - len(row) if side == "left" else 0
            ids[index, start : start + len(row)] = torch.tensor(row)
            mask[index, start : start + len(row)] = 1
        return ids, mask

    return make
