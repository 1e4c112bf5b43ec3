"""Committing to a plan in training: beliefs as probabilities, so that gradients reach states of probability zero."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import gumbel_softmax

from apelr_model.arithmetic import within_by_conditioning
from apelr_model.belief import log_normalize, safe_log, to_filter_dtype

__all__ = ["ProbabilityArithmetic", "gumbel_commitment"]

LARGEST_GAP = 300.0
"""Nats by which a state of probability zero may beat the others before its gradient grows no more."""
LARGEST_GRADIENT = 1e6
"""Bound on a committed state's gradient: e^100 would be no number in the parameters' float32."""


class ProbabilityArithmetic:
    """Beliefs as probabilities, for `filter_sequence`; `commit` maps log_belief [B, K] at a chunk's start to them.

    d log sum_k s_k e^(l_k) / d s_k = e^(l_k) / sum, also where s_k = 0: in log space that gradient would be lost.
    """

    def __init__(self, commit: Callable[[Tensor], Tensor]) -> None:
        self._commit = commit

    def take(self, log_belief: Tensor, begins: Tensor) -> Tensor:
        """log_belief [B, K], begins [B] or [1] -> probabilities [B, K], committed where a chunk begins."""
        if not bool(begins.any()):
            return log_belief.exp()
        return torch.where(begins.unsqueeze(-1), self._commit(log_belief), log_belief.exp())

    def condition(self, belief: Tensor, token_log_probs: Tensor) -> Tensor:
        """belief [..., K], token_log_probs [..., K] -> probabilities [..., K] after the observation."""
        weights = belief * _scaled(belief, token_log_probs)[0]
        total = weights.sum(-1, keepdim=True)
        return weights / total.masked_fill(total == 0, 1.0)

    def cross(self, belief: Tensor, log_transition: Tensor, evidence: Tensor | None) -> Tensor:
        """belief [..., K], log_transition [K, K] -> log_belief [..., K] in the next chunk."""
        log_next = safe_log(belief @ to_filter_dtype(log_transition).exp())
        return log_normalize(log_next if evidence is None else log_next + to_filter_dtype(evidence))

    def within(self, belief: Tensor, so_far: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """belief [..., K], so_far [..., L, K] -> before and after [..., L, K]."""
        return within_by_conditioning(self, belief, so_far)

    def expect(self, gate: Tensor, token_log_probs: Tensor) -> Tensor:
        """gate [..., K], token_log_probs [..., K] -> log sum_k gate(k) p(y | k) [...]."""
        likelihoods, peak = _scaled(gate, token_log_probs)
        return safe_log((gate * likelihoods).sum(-1)) + peak.squeeze(-1)

    def log(self, belief: Tensor) -> Tensor:
        """belief [..., K] -> log_belief [..., K]; the gradient at zero is 0."""
        return safe_log(belief)


def _scaled(belief: Tensor, token_log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """belief [..., K], token_log_probs [..., K] -> e^(l - peak) [..., K] and the peak [..., 1] over possible states."""
    values, weights = torch.broadcast_tensors(to_filter_dtype(token_log_probs), belief)
    peak = values.detach().masked_fill(weights.detach() == 0, -torch.inf).amax(-1, keepdim=True)
    peak = peak.masked_fill(peak == -torch.inf, 0.0)
    return (values - peak).clamp(max=LARGEST_GAP).exp(), peak


def gumbel_commitment(log_belief: Tensor, *, temperature: float, hard_fraction: float) -> Tensor:
    """log_belief [B, K] -> probabilities [B, K]: (1 - hard_fraction) belief + hard_fraction * sampled one-hot.

    The straight-through Gumbel-softmax estimator (Jang et al., 2017): one-hot forwards, the relaxed sample's gradient
    backwards, bounded elementwise by `LARGEST_GRADIENT`. Draws from the device's own generator.
    """
    relaxed = gumbel_softmax(to_filter_dtype(log_belief), tau=temperature, dim=-1)
    sampled = torch.zeros_like(relaxed).scatter(-1, relaxed.argmax(-1, keepdim=True), 1.0)
    straight_through = sampled + (relaxed - relaxed.detach())
    committed = (1 - hard_fraction) * to_filter_dtype(log_belief).exp() + hard_fraction * straight_through
    if committed.requires_grad:
        committed.register_hook(lambda gradient: gradient.clamp(-LARGEST_GRADIENT, LARGEST_GRADIENT))
    return committed
