"""The expert head: every plan state has an output layer of its own, all of them one matrix."""

import math

import torch
from torch import Tensor, nn

from apelr_model.head import StateOutputs, check_weight

__all__ = ["ExpertHead"]


class ExpertHead(nn.Module):
    """logits_k = W_k dropout(h) + b_k, one dropout mask for all states; no path round the plan.

    `weight` [K * V, D] holds W_0, W_1, ... one below the other; with one state it is an ordinary softmax head.
    With a `spread` s below 1 fresh experts are sqrt(1 - s^2) times a layer common to all and s times one of their own:
    of the same variance, but near each other, so that no expert wins every chunk before the others have learnt.
    A `weight` given to the constructor is used as it stands (tied embeddings, K = 1); ValueError with another shape.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_plan_states: int,
        hidden_dim: int,
        dropout: float,
        spread: float = 1.0,
        weight: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        shape = (num_plan_states * vocab_size, hidden_dim)
        bound = 1 / math.sqrt(hidden_dim)  # that of `num_plan_states` separate nn.Linear layers
        self.dropout = nn.Dropout(dropout)
        if weight is None:
            self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        else:
            self.weight = check_weight(weight, shape)
        self.bias = nn.Parameter(torch.empty(num_plan_states, vocab_size).uniform_(-bound, bound))
        if spread != 1 and num_plan_states > 1:
            for parameter in (self.weight, self.bias):
                own = parameter.data.view(num_plan_states, -1)
                common = torch.empty_like(own[0]).uniform_(-bound, bound)
                own.mul_(spread).add_(common, alpha=math.sqrt(1 - spread**2))

    @property
    def logits_per_token(self) -> int:
        """K * V."""
        return self.bias.numel()

    @property
    def flops_per_token(self) -> int:
        """2 K V D."""
        return 2 * self.weight.numel()

    def state_parameters(self) -> list[Tensor]:
        """The parameters that are K equal blocks along their first axis, one for each plan state."""
        return [self.weight, self.bias]

    def outputs(self, hidden: Tensor) -> StateOutputs:
        """hidden [N, D] -> the parts of the logits; one dropout mask is drawn."""
        return StateOutputs(self.dropout(hidden), self.weight, self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [N, D] -> logits [N, K, V]."""
        return self.outputs(hidden).logits()
