"""What a model knows of sequences that it has read, and what it makes of the next token."""

from typing import NamedTuple

from torch import Tensor

from apelr_model.executor import Carry
from apelr_model.filter import FilterResult
from apelr_model.plan_state import PlanState
from apelr_model.segments import Segments

__all__ = ["ModelState", "Prediction", "Reading"]


class ModelState(NamedTuple):
    """Where B sequences stand after their last observed target; all that is needed to go on."""

    carry: Carry
    """The executor's carry: every input up to, not including, the last observed target has been read. None: the
    executor begins afresh whatever the plan has seen, and keeps nothing."""
    plan: PlanState
    """The planner's part."""

    @property
    def log_belief(self) -> Tensor:
        """[B, K] belief after the last observed target (log pi before the first); float64."""
        return self.plan.log_belief

    @property
    def position(self) -> Tensor:
        """[B] number of targets observed."""
        return self.plan.position


class Reading(NamedTuple):
    """What reading a batch of inputs and targets gave."""

    hidden: Tensor
    """[B, T, D] the executor's state after each input."""
    state_log_probs: Tensor
    """[B, T, K] log p(y_t | x_<=t, z = k), nats."""
    filtered: FilterResult
    """Beliefs before and after each target, gates, and the targets' log-probabilities."""
    segments: Segments
    """The runs of targets between chunk boundaries and restarts."""
    evidence: Tensor | None
    """[B, S, K] log-weights of the boundary evidence at the start of each run; None without evidence."""
    positions: Tensor
    """[1 or B, T] number of targets of the same document before each target."""
    log_initial: Tensor
    """[B, K] belief that each row began with: log pi, or that of the state it went on from."""
    state: ModelState
    """Where every row stands after its last (unpadded) target."""


class Prediction(NamedTuple):
    """The model's view of the next target of B sequences, after reading one more input each."""

    log_probs: Tensor
    """[B, V] log p(y | x), the mixture over plan states."""
    state_log_probs: Tensor
    """[B, K, V] log p(y | x, z = k)."""
    log_gate: Tensor
    """[B, K] log-weights of the plan states in the mixture."""
    plan: PlanState
    """The planner's part before the target, any boundary crossed."""
    carry: Carry

    @property
    def log_belief(self) -> Tensor:
        """[B, K] belief before the target."""
        return self.plan.log_belief

    @property
    def position(self) -> Tensor:
        """[B] number of targets observed."""
        return self.plan.position
