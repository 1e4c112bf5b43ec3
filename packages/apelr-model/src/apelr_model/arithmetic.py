"""How a belief is written down inside the filter: as log-probabilities, or as probabilities (commitment.py)."""

from typing import Protocol

import torch
from torch import Tensor

from apelr_model.belief import condition, cross_boundary, log_mean_state, normalized

__all__ = ["LOG_ARITHMETIC", "Arithmetic", "LogArithmetic", "within_by_conditioning"]


class Arithmetic(Protocol):
    """What the recursion over a row of runs needs; `within` is a whole run at a time, the rest one step of it."""

    def take(self, log_belief: Tensor, begins: Tensor) -> Tensor:
        """log_belief [B, K] at the start of a run, begins [B] or [1] (is it a chunk's start?) -> the belief to use."""
        ...

    def condition(self, belief: Tensor, token_log_probs: Tensor) -> Tensor:
        """belief [..., K], token_log_probs [..., K] -> belief [..., K] after the observation."""
        ...

    def cross(self, belief: Tensor, log_transition: Tensor, evidence: Tensor | None) -> Tensor:
        """belief [..., K] -> log_belief [..., K] in the next chunk."""
        ...

    def within(self, belief: Tensor, so_far: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """belief [..., K] at a run's start, so_far [..., L, K] (running sums of l) -> beliefs before and after each
        target, both [..., L, K], and where it costs nothing each target's log-probability [..., L]."""
        ...

    def expect(self, gate: Tensor, token_log_probs: Tensor) -> Tensor:
        """gate [..., K], token_log_probs [..., K] -> log sum_k gate(k) p(y | k) [...]."""
        ...

    def log(self, belief: Tensor) -> Tensor:
        """belief [..., K] -> log_belief [..., K]."""
        ...


class LogArithmetic:
    """Beliefs as log-probabilities: exact at any gap, and what everything but a commitment uses."""

    def take(self, log_belief: Tensor, begins: Tensor) -> Tensor:
        """log_belief [B, K], begins [B] or [1] -> the belief as it is."""
        return log_belief

    def condition(self, belief: Tensor, token_log_probs: Tensor) -> Tensor:
        """belief [..., K], token_log_probs [..., K] -> [..., K]: `condition`."""
        return condition(belief, token_log_probs)

    def cross(self, belief: Tensor, log_transition: Tensor, evidence: Tensor | None) -> Tensor:
        """belief [..., K], log_transition [K, K], evidence [..., K] -> [..., K]: `cross_boundary`."""
        return cross_boundary(belief, log_transition, evidence)

    def within(self, belief: Tensor, so_far: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """belief [..., K] (normalised), so_far [..., L, K] -> before and after [..., L, K], log-probabilities [..., L].

        Inside a run the plan stays: after each target the belief is that of the start, conditioned on the sum of what
        was seen, and the normalisers of two targets in a row differ by the log-probability of the second.
        """
        start = belief.unsqueeze(-2)
        after, total = normalized(start + so_far)
        if so_far.shape[-2] == 1:
            return start, after, total
        before = torch.cat([start, after[..., :-1, :]], dim=-2)
        earlier = torch.cat([torch.zeros_like(total[..., :1]), total[..., :-1]], dim=-1)
        impossible = earlier == -torch.inf  # what follows an impossible target is impossible, not undefined
        return before, after, total - earlier.masked_fill(impossible, 0.0)

    def expect(self, gate: Tensor, token_log_probs: Tensor) -> Tensor:
        """gate [..., K], token_log_probs [..., K] -> [...]: `log_mean_state`."""
        return log_mean_state(gate, token_log_probs)

    def log(self, belief: Tensor) -> Tensor:
        """belief [..., K] -> the belief as it is."""
        return belief


LOG_ARITHMETIC = LogArithmetic()


def within_by_conditioning(arithmetic: Arithmetic, belief: Tensor, so_far: Tensor) -> tuple[Tensor, Tensor, None]:
    """belief [..., K], so_far [..., L, K] -> before and after [..., L, K]: `within` of any arithmetic."""
    earlier = torch.cat([torch.zeros_like(so_far[..., :1, :]), so_far[..., :-1, :]], dim=-2)
    before, after = (arithmetic.condition(belief.unsqueeze(-2), part) for part in (earlier, so_far))
    return before, after, None
