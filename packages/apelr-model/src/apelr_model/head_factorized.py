"""The factorized head: one output layer for all plan states, a bias for each, and if wanted a map of low rank."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from apelr_model.biased_log_probs import LARGEST_BIAS, biased_log_probs
from apelr_model.head import log_probs_of
from apelr_model.row_product import product
from apelr_model.slices import in_slices, slice_limit

__all__ = ["FactorizedHead", "FactorizedOutputs"]


class FactorizedOutputs(NamedTuple):
    """Logits [N, K, V] in parts: weight features + bias, plus plan_bias_k + up features_k."""

    features: Tensor
    """[N, D]."""
    weight: Tensor
    """[V, D]."""
    bias: Tensor
    """[V]."""
    plan_bias: Tensor
    """[K, V]."""
    plan_features: Tensor | None
    """[N, K, r]; None at rank 0."""
    up: Tensor | None
    """[V, r]; None at rank 0."""

    def logits(self) -> Tensor:
        """-> [N, K, V]."""
        shared = product(self.features, self.weight, self.bias).unsqueeze(1) + self.plan_bias
        if self.plan_features is None or self.up is None:
            return shared
        return shared + self.plan_features @ self.up.T

    def target_log_probs(self, targets: Tensor) -> Tensor:
        """targets [N] or [N, M] -> log p(y | h, z = k) [N, K] or [N, M, K], in at least float32, in slices."""
        if self.plan_features is None:
            limit = slice_limit(len(self.bias))
            return biased_log_probs(self.features, self.weight, self.bias, self.plan_bias, targets, limit)

        def one_slice(features: Tensor, plan_features: Tensor, targets: Tensor) -> Tensor:
            log_probs = log_probs_of(self._replace(features=features, plan_features=plan_features).logits())
            chosen = targets.view(len(targets), 1, -1).expand(-1, log_probs.shape[1], -1)
            found = log_probs.gather(-1, chosen)  # [n, K, M]
            return found.squeeze(-1) if targets.ndim == 1 else found.transpose(1, 2)

        return in_slices(one_slice, self.plan_bias.numel(), self.features, self.plan_features, targets)


class FactorizedHead(nn.Module):
    """logits_k = W d(h) + b + beta_k + U A_k d(h), with one dropout mask d for all states.

    W [V, D] and U [V, r] are shared; beta_k [V] and A_k [r, D] belong to plan state k, and there are no U and A at rank
    0. Every token's distribution depends on the state, at 2 (V D + K V) operations a token for rank 0 against the dense
    head's 2 K V D. beta = c tanh(raw / c) with c = `LARGEST_BIAS` (a soft cap, as in Gemma 2, arXiv 2408.00118).
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_plan_states: int,
        hidden_dim: int,
        dropout: float,
        rank: int,
        init_std: float,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden_dim)  # that of nn.Linear
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(vocab_size).uniform_(-bound, bound))
        self.raw_plan_bias = nn.Parameter(torch.randn(num_plan_states, vocab_size) * init_std)
        self.down = self.up = None
        if rank:  # U starts at zero: the head is then that of rank 0, whose states differ by their biases
            self.down = nn.Parameter(torch.empty(num_plan_states * rank, hidden_dim).uniform_(-bound, bound))
            self.up = nn.Parameter(torch.zeros(vocab_size, rank))

    @property
    def logits_per_token(self) -> int:
        """K * V."""
        return self.raw_plan_bias.numel()

    @property
    def flops_per_token(self) -> int:
        """2 (V D + K V) at rank 0; 2 (V D + K r D + K V r) at rank r."""
        if self.down is None or self.up is None:
            return 2 * (self.weight.numel() + self.logits_per_token)
        return 2 * (self.weight.numel() + self.down.numel() + self.logits_per_token * self.up.shape[1])

    def state_parameters(self) -> list[Tensor]:
        """The parameters that are K equal blocks along their first axis, one for each plan state."""
        return [self.raw_plan_bias] if self.down is None else [self.raw_plan_bias, self.down]

    def plan_bias(self) -> Tensor:
        """-> beta [K, V], nats, within +- `LARGEST_BIAS`."""
        return LARGEST_BIAS * torch.tanh(self.raw_plan_bias / LARGEST_BIAS)

    def outputs(self, hidden: Tensor) -> FactorizedOutputs:
        """hidden [N, D] -> the parts of the logits; one dropout mask is drawn."""
        features = self.dropout(hidden)
        low = None
        if self.down is not None:
            low = product(features, self.down).unflatten(-1, (len(self.raw_plan_bias), -1))
        return FactorizedOutputs(features, self.weight, self.bias, self.plan_bias(), low, self.up)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [N, D] -> logits [N, K, V]."""
        return self.outputs(hidden).logits()
