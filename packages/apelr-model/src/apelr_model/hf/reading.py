"""One forward pass: a batch of ids with a mask, after what a cache holds, through executor, planner and head."""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.belief import log_mean_state
from apelr_model.emissions import state_log_probs, target_log_probs
from apelr_model.errors import ImpossibleObservationError
from apelr_model.hf.cache import Pending
from apelr_model.plan_state import PlanState
from apelr_model.planner_lm import PlannerLM, next_positions
from apelr_model.policy import PlanPolicy
from apelr_model.slices import in_slices

__all__ = ["NextTokens", "read_next_tokens"]


class NextTokens(NamedTuple):
    """What the model expects after each of N columns: those that were asked for."""

    log_probs: Tensor
    """[B, N, V] log p(next token | all tokens up to here), nats."""
    log_belief: Tensor
    """[B, N, K] belief before the next token."""
    log_gate: Tensor
    """[B, N, K] log-weights of the plan states in the prediction of the next token."""
    pending: Pending
    """Where the rows stand."""


def read_next_tokens(
    model: PlannerLM,
    ids: Tensor,
    keep: Tensor | None,
    before: Pending | None,
    policy: PlanPolicy,
    *,
    keep_state: bool,
    last: int = 0,
    pad_id: int | None = None,
) -> NextTokens:
    """ids [B, S], keep [B, S] (bool; None keeps all) -> NextTokens of the `last` columns (0: of all S).

    A column that is not kept is not there: neither executor nor belief sees it, and no position is counted. It shows
    what its row expects after the kept ones before it; before the first, what is expected after that. `before` goes on
    from earlier columns; without `keep_state` nothing can go on. `pad_id` may fill rows that have ended: where it is
    impossible, nothing is learnt from it. Raises ValueError for a row of which nothing is kept, and
    ImpossibleObservationError for any other token that no plan allows.
    """
    packed = _pack(ids, keep)
    carry = model.executor.initial_carry(len(ids)) if keep_state else None
    plan = model.planner.initial_state(len(ids))
    if before is not None:
        carry, plan = before.carry, _observe(model, before, packed.ids[:, 0], policy, pad_id)
    hidden, carry = model.executor(packed.ids, carry, lengths=packed.lengths)
    log_belief, log_gate = hidden.new_zeros(len(ids), 0, 1), hidden.new_zeros(len(ids), 0, 1)
    if ids.shape[1] > 1:
        plan, log_belief, log_gate = _observe_all(model, packed, hidden, plan, policy)
    newest = hidden[:, -1] if packed.lengths is None else _at(hidden, packed.lengths - 1)
    plan, gate = model.planner.enter(plan, newest, policy)
    states = packed.columns(hidden, last)
    beliefs = packed.columns(packed.ended_by(log_belief, plan.log_belief), last)
    gates = packed.columns(packed.ended_by(log_gate, gate), last)
    return NextTokens(_log_probs(model, states, gates), beliefs, gates, Pending(carry, newest, plan))


class _Packed(NamedTuple):
    """A batch with each row's kept ids at its left."""

    ids: Tensor
    """[B, S]."""
    lengths: Tensor | None
    """[B] kept ids; None: all."""
    place: Tensor | None
    """[B, S] where the newest kept id of each column stands; None: where the column does."""

    def ended_by(self, values: Tensor, end: Tensor) -> Tensor:
        """values [B, S - 1, K], end [B, K] of each row's last kept id -> [B, S, K]."""
        if self.ids.shape[1] == 1:
            return end.unsqueeze(1)
        whole = torch.cat([values, end.unsqueeze(1)], dim=1)
        if self.lengths is None:
            return whole
        is_end = torch.arange(whole.shape[1], device=whole.device) == (self.lengths - 1).to(whole.device).unsqueeze(1)
        return torch.where(is_end.unsqueeze(-1), end.unsqueeze(1), whole)

    def columns(self, values: Tensor, last: int) -> Tensor:
        """values [B, S, K] of the kept ids -> [B, N, K] of the last N columns (0: of all)."""
        if self.place is None:
            return values[:, -last:]
        index = self.place[:, -last:].to(values.device).unsqueeze(-1)
        return values.gather(1, index.expand(-1, -1, values.shape[-1]))


def _pack(ids: Tensor, keep: Tensor | None) -> _Packed:
    if keep is None or bool(keep.all()):
        return _Packed(ids, None, None)
    lengths = keep.sum(1)
    if bool((lengths == 0).any()):
        row = int((lengths == 0).nonzero()[0])
        raise ValueError(f"attention_mask must keep a token of every row, row {row} has none")
    order = (~keep).long().argsort(dim=1, stable=True)
    return _Packed(ids.gather(1, order), lengths, (keep.long().cumsum(1) - 1).clamp(min=0))


def _at(values: Tensor, column: Tensor) -> Tensor:
    """values [B, S, D], column [B] -> [B, D]."""
    return values[torch.arange(len(column), device=values.device), column]


def _observe(model: PlannerLM, before: Pending, ids: Tensor, policy: PlanPolicy, pad_id: int | None) -> PlanState:
    """ids [B]: the tokens that came after what had been read -> the plan state after them."""
    seen = target_log_probs(model.head, before.hidden, ids)
    if pad_id is not None:
        seen = seen.masked_fill(((ids == pad_id) & (seen == -torch.inf).all(-1)).unsqueeze(-1), 0.0)
    plan = model.planner.observe(before.plan, seen, policy)
    _refuse_impossible(plan)
    return plan


def _observe_all(
    model: PlannerLM, packed: _Packed, hidden: Tensor, plan: PlanState, policy: PlanPolicy
) -> tuple[PlanState, Tensor, Tensor]:
    """hidden [B, S, D] -> the plan state after the ids 1 ... S - 1, beliefs and gates [B, S - 1, K] before them."""
    inputs, targets = hidden[:, :-1], packed.ids[:, 1:]
    found = target_log_probs(model.head, inputs.flatten(0, 1), targets.flatten()).unflatten(0, targets.shape)
    reading = model.planner.read(
        inputs,
        found,
        plan,
        policy,
        positions=next_positions(plan.position, targets.shape[1]),
        lengths=None if packed.lengths is None else packed.lengths - 1,
    )
    _refuse_impossible(reading.state)
    return reading.state, reading.filtered.log_belief, reading.filtered.log_gate


def _refuse_impossible(plan: PlanState) -> None:
    impossible = (plan.log_belief == -torch.inf).all(-1)
    if bool(impossible.any()):
        row = int(impossible.nonzero()[0])
        raise ImpossibleObservationError(f"row {row} of input_ids has probability zero under every plan")


def _log_probs(model: PlannerLM, hidden: Tensor, log_gate: Tensor) -> Tensor:
    """hidden [B, N, D], log_gate [B, N, K] -> mixture log-probabilities [B, N, V], in slices."""

    def one_slice(hidden: Tensor, log_gate: Tensor) -> Tensor:
        return log_mean_state(log_gate, state_log_probs(model.head, hidden))

    rows = hidden.flatten(0, 1), log_gate.flatten(0, 1)
    found: Tensor = in_slices(one_slice, model.head.logits_per_token, *rows).unflatten(0, hidden.shape[:2])
    return found
