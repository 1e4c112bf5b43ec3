"""The planners of V1 and V2: the same filter, and what each version's losses train beside it."""

from typing import Any

import torch
from torch import Tensor, nn

from apelr_model.chunks import ChunkRule
from apelr_model.config import V1Config, V2Config
from apelr_model.future_contrast import future_contrastive
from apelr_model.planner import FilterPlanner

__all__ = ["V1Planner", "V2Planner"]


class V1Planner(FilterPlanner):
    """V1's chain of plans, with a recognizer that guesses a chunk's plan from its complete text."""

    def __init__(self, config: V1Config) -> None:
        super().__init__(
            **_sizes(config), summary="last_state", chunks=ChunkRule(chunk_size=config.chunk_size, offset=0)
        )
        self.recognizer = nn.Linear(config.hidden_dim, config.num_plan_states)

    def state_parameters(self) -> list[Tensor]:
        """The chain's, and the recognizer's."""
        return [*super().state_parameters(), *self.recognizer.parameters()]

    def recognize(self, chunk_mean: Tensor) -> Tensor:
        """chunk_mean [..., D] (mean executor state of a whole chunk) -> log-probabilities [..., K].

        A training aid, never used to predict.
        """
        with torch.autocast(chunk_mean.device.type, enabled=False):
            logits: Tensor = self.recognizer(chunk_mean.to(self.recognizer.weight.dtype))
        return logits.log_softmax(-1)


class V2Planner(FilterPlanner):
    """V2's chain of plans, with embeddings of the states and a projection of chunks for the contrastive loss."""

    def __init__(self, config: V2Config) -> None:
        super().__init__(
            **_sizes(config), summary="chunk_mean", chunks=ChunkRule(chunk_size=config.chunk_size, offset=1)
        )
        self.future_horizon = config.future_horizon_chunks
        self.plan_state_emb = self.future_proj = None
        if self.future_horizon:
            self.plan_state_emb = nn.Embedding(config.num_plan_states, config.hidden_dim)
            self.future_proj = nn.Linear(config.hidden_dim, config.hidden_dim, bias=False)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(config.temperature_at(0, 1)))

    def state_parameters(self) -> list[Tensor]:
        """The chain's, and the embeddings of the states."""
        embeddings = [] if self.plan_state_emb is None else [self.plan_state_emb.weight]
        return [*super().state_parameters(), *embeddings]

    def future_contrast(self, state: Tensor, summary: Tensor, valid: Tensor) -> Tensor:
        """state [B, C, K], summary [B, C, D], valid [B, C] -> `future_contrastive` of the chunks, a scalar in nats.

        ValueError in a model whose `future_horizon_chunks` is 0.
        """
        if self.plan_state_emb is None or self.future_proj is None:
            raise ValueError("the future-contrastive loss needs model.future_horizon_chunks >= 1")
        return future_contrastive(
            state,
            self.plan_state_emb.weight,
            self.future_proj(summary.to(self.future_proj.weight.dtype)),
            horizon=self.future_horizon,
            temperature=float(self.temperature),
            valid=valid,
        )


def _sizes(config: V1Config | V2Config) -> dict[str, Any]:
    return {
        "num_plan_states": config.num_plan_states,
        "hidden_dim": config.hidden_dim,
        "context_scale": config.planner_context_scale,
        "self_bias": config.planner_self_bias,
        "boundary_evidence": config.boundary_evidence,
    }
