"""What every output head offers: the logits of all plan states in parts, so that slices of them can be made."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from apelr_model.linear_log_probs import linear_log_probs
from apelr_model.row_product import product
from apelr_model.slices import slice_limit

__all__ = ["Head", "HeadOutputs", "StateOutputs", "check_weight", "log_probs_of"]


class HeadOutputs(Protocol):
    """The logits of N tokens, not yet made."""

    def logits(self) -> Tensor:
        """-> [N, K, V]."""
        ...

    def target_log_probs(self, targets: Tensor) -> Tensor:
        """targets [N] or [N, M] -> log p(y | h, z = k) [N, K] or [N, M, K], in at least float32, in slices."""
        ...


class StateOutputs(NamedTuple):
    """A head's logits [N, K, V] in parts, in one of two forms told apart by the axes of `features`.

    Shared weight: features [N, K, F], weight [V, F]: logits_k = weight features_k + bias_k.
    A weight for each state: features [N, D], weight [K * V, D], state by state: logits_k = weight_k features + bias_k.
    """

    features: Tensor
    """[N, K, F] or [N, D]."""
    weight: Tensor
    """[V, F] or [K * V, D]."""
    bias: Tensor
    """[K, V]."""

    def logits(self) -> Tensor:
        """-> [N, K, V]; one matrix product in either form."""
        products = product(self.features.flatten(0, -2), self.weight)  # [N * K, V] or [N, K * V]
        return products.view(len(self.features), *self.bias.shape) + self.bias

    def target_log_probs(self, targets: Tensor) -> Tensor:
        """targets [N] or [N, M] -> log p(y | h, z = k) [N, K] or [N, M, K], in at least float32, in slices."""
        return linear_log_probs(self.features, self.weight, self.bias, targets, slice_limit(self.bias.numel()))


class Head(Protocol):
    """What the sliced losses need from an output head."""

    @property
    def logits_per_token(self) -> int:
        """K * V."""
        ...

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of the matrix products that make one token's logits."""
        ...

    def state_parameters(self) -> list[Tensor]:
        """Those that are K equal blocks along their first axis, one for each plan state."""
        ...

    def outputs(self, hidden: Tensor) -> HeadOutputs:
        """hidden [N, D] -> the parts of the logits."""
        ...

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden [N, D] -> logits [N, K, V]."""
        ...


def log_probs_of(logits: Tensor) -> Tensor:
    """logits [..., V] -> log-probabilities [..., V], in at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def check_weight(weight: nn.Parameter, shape: tuple[int, int]) -> nn.Parameter:
    """weight [V, F], given from outside (tied embeddings) -> itself; ValueError with another shape."""
    if tuple(weight.shape) != shape:
        raise ValueError(f"the head's weight must be {list(shape)}, got {list(weight.shape)}")
    return weight
