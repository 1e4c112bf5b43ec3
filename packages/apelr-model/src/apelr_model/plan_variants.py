"""What a model would have predicted had its planner worked otherwise: other beliefs over the same emissions."""

import torch
from torch import Tensor

from apelr_model.batch_statistics import BatchStatistics
from apelr_model.belief import to_filter_dtype
from apelr_model.carried_plan import CarriedPlan
from apelr_model.filter import FilterResult, filter_sequence
from apelr_model.gate import log_gate
from apelr_model.plan_state import belief_at_end
from apelr_model.planner import FilterPlanner, observed_targets
from apelr_model.policy import PlanPolicy

__all__ = ["refilter", "stationary_distribution", "swapped_rows", "without_memory"]

DOUBLINGS = 64
"""P^(2^64): longer than any chain of plans whose transitions float64 can tell from staying for ever."""


def refilter(
    planner: FilterPlanner,
    found: BatchStatistics,
    policy: PlanPolicy,
    *,
    log_transition: Tensor,
    evidence: Tensor | None,
    carried: CarriedPlan,
) -> FilterResult:
    """A batch that has been read, log_transition [K, K], evidence [B, S, K] -> what the filter makes of it with these.

    Emissions, boundaries and policy stay; the gate's lookahead keeps the planner's own transitions. Rows that go on do
    so with the belief that the same changes left in the batch before: `carried` holds it, and is brought up to date.
    """
    reading, batch, valid = found.reading, found.batch, found.batch.valid
    own_transition = planner.log_transition()
    start = carried.before(planner, batch)
    if start is None:
        start = planner.initial_state(len(valid))
    filtered = filter_sequence(
        reading.state_log_probs,
        start.log_belief,
        log_transition,
        reading.segments,
        evidence=evidence,
        mask=valid,
        observed=observed_targets(reading.positions, policy, len(valid)),
        log_restart=planner.log_initial(),
        gate=lambda belief: log_gate(belief, own_transition, policy),
    )
    after = reading.state.plan._replace(log_belief=belief_at_end(filtered, batch.lengths))
    carried.keep_after(batch, [after])
    return filtered


def stationary_distribution(log_transition: Tensor, log_initial: Tensor) -> Tensor:
    """log_transition [K, K], log_initial [K] -> probabilities [K] of the plan in the long run, float64.

    The limit of the lazy chain (P + I) / 2 started from pi: the stationary distribution where there is one, and where
    there are several the one that pi leads to.
    """
    transition = to_filter_dtype(log_transition).exp()
    power = (transition + torch.eye(len(transition), dtype=transition.dtype, device=transition.device)) / 2
    for _ in range(DOUBLINGS):
        power = power @ power
        power = power / power.sum(-1, keepdim=True)
    found: Tensor = to_filter_dtype(log_initial).exp() @ power
    return found / found.sum()


def without_memory(log_transition: Tensor, log_initial: Tensor) -> Tensor:
    """log_transition [K, K], log_initial [K] -> log-transitions [K, K] that forget: every row is stationary."""
    stationary = stationary_distribution(log_transition, log_initial)
    return stationary.log().expand(len(stationary), -1)


def swapped_rows(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """values [B, T, K], valid [B, T] -> each row's values taken from row (b + B // 2) mod B, and where both are valid.

    With one row there is no other, and nothing is valid.
    """
    rows = len(values)
    if rows == 1:
        return values, torch.zeros_like(valid)
    return values.roll(-(rows // 2), dims=0), valid & valid.roll(-(rows // 2), dims=0)
