"""The planner's parameters: where a plan starts, how it moves, and what the text read so far says about it."""

import torch
from torch import Tensor, nn

from apelr_model.belief import cross_boundary

__all__ = ["Planner"]


class Planner(nn.Module):
    """Initial and transition logits of the plan, and a linear reading of the executor at chunk boundaries."""

    def __init__(
        self,
        *,
        num_plan_states: int,
        hidden_dim: int,
        context_scale: float,
        self_bias: float,
        boundary_evidence: bool,
    ) -> None:
        super().__init__()
        self.initial_logits = nn.Parameter(torch.zeros(num_plan_states))
        self.transition_logits = nn.Parameter(self_bias * torch.eye(num_plan_states))
        self.context_proj = nn.Linear(hidden_dim, num_plan_states) if boundary_evidence else None
        self.context_scale = context_scale
        self.recognizer = nn.Linear(hidden_dim, num_plan_states)

    def log_initial(self) -> Tensor:
        """-> log-probabilities [K] of the first chunk's plan, log pi."""
        return self.initial_logits.log_softmax(-1)

    def log_transition(self) -> Tensor:
        """-> log-probabilities [K, K], row: from, column: to; every row sums to one."""
        return self.transition_logits.log_softmax(-1)

    def evidence(self, hidden: Tensor) -> Tensor | None:
        """hidden [..., D] at the boundary's first target -> log-weights e [..., K], or None without evidence.

        e = context_scale (W h + b), in at least float32 also under autocast.
        """
        if self.context_proj is None:
            return None
        with torch.autocast(hidden.device.type, enabled=False):
            evidence: Tensor = self.context_scale * self.context_proj(hidden.to(self.context_proj.weight.dtype))
        return evidence

    def recognize(self, chunk_mean: Tensor) -> Tensor:
        """chunk_mean [..., D] (mean executor state of a whole chunk) -> log-probabilities [..., K].

        The recognizer's guess of a chunk's plan from its complete text; a training aid, never used to predict.
        """
        with torch.autocast(chunk_mean.device.type, enabled=False):
            logits: Tensor = self.recognizer(chunk_mean.to(self.recognizer.weight.dtype))
        return logits.log_softmax(-1)

    def enter(self, log_belief: Tensor, hidden: Tensor, crosses: Tensor) -> Tensor:
        """log_belief [B, K], hidden [B, D], crosses [B] -> log_belief [B, K] before the next target.

        Rows where `crosses` is true go through the boundary; the others stay as they are.
        """
        crossed = cross_boundary(log_belief, self.log_transition(), self.evidence(hidden))
        return torch.where(crosses.to(crossed.device).unsqueeze(-1), crossed, log_belief)
