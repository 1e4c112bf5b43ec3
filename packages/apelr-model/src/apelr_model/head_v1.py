"""V1's output head: one shared projection of the executor's state fused with each plan's embedding."""

import torch
from torch import Tensor, nn

from apelr_model.head import StateOutputs, check_weight
from apelr_model.row_product import Projection

__all__ = ["V1Head"]


class V1Head(nn.Module):
    """logits_k = W_o dropout(tanh(W_s h + b_s + W_p u_k)) + b_o + v_k.

    `weight` [V, F], if given, is used as W_o as it stands (tied embeddings); ValueError with another shape.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_plan_states: int,
        hidden_dim: int,
        fusion_dim: int,
        dropout: float,
        weight: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.state_proj = Projection(hidden_dim, fusion_dim)
        # The default scale (unit variance) keeps plans apart from the start: nearly equal embeddings are a saddle.
        self.plan_emb = nn.Embedding(num_plan_states, fusion_dim)
        self.plan_proj = Projection(fusion_dim, fusion_dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = Projection(fusion_dim, vocab_size)
        if weight is not None:
            self.out_proj.weight = check_weight(weight, (vocab_size, fusion_dim))
        self.plan_vocab_bias = nn.Parameter(torch.zeros(num_plan_states, vocab_size))

    @property
    def logits_per_token(self) -> int:
        """K * V."""
        return self.plan_vocab_bias.numel()

    @property
    def flops_per_token(self) -> int:
        """2 (D F + K V F); the plan embeddings' projection is made once a batch and not counted."""
        return 2 * (self.state_proj.weight.numel() + self.logits_per_token * self.state_proj.out_features)

    def state_parameters(self) -> list[Tensor]:
        """The parameters that are K equal blocks along their first axis, one for each plan state."""
        return [self.plan_emb.weight, self.plan_vocab_bias]

    def outputs(self, hidden: Tensor) -> StateOutputs:
        """hidden [N, D] -> the parts of the logits; one dropout mask is drawn."""
        plans = self.plan_proj(self.plan_emb.weight)  # [K, F]
        fused = torch.tanh(self.state_proj(hidden).unsqueeze(1) + plans)  # [N, K, F]
        return StateOutputs(self.dropout(fused), self.out_proj.weight, self.out_proj.bias + self.plan_vocab_bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [N, D] -> logits [N, K, V]."""
        return self.outputs(hidden).logits()
