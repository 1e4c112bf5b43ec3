"""The controls' planner: a gate computed from each hidden state, without memory."""

import torch
from torch import Tensor, nn

from apelr_model.belief import condition, log_mean_state, to_filter_dtype
from apelr_model.chunks import ChunkRule
from apelr_model.filter import FilterResult, where_true
from apelr_model.gate import log_gate
from apelr_model.plan_state import PlanReading, PlanState, state_after
from apelr_model.planner import Planner
from apelr_model.policy import PlanPolicy

__all__ = ["ContextGate"]

WHOLE_TEXT = 2**62
"""Tokens in the controls' only chunk."""


class ContextGate(Planner):
    """gate_t = softmax(W h_t + b): what an ordinary mixture of softmaxes does; with K = 1 the gate is 1.

    The "belief after" a target is the gate conditioned on it, the weights that each head then earned; nothing of it
    is carried on.
    """

    def __init__(self, *, num_plan_states: int, hidden_dim: int) -> None:
        super().__init__()
        self.num_plan_states = num_plan_states
        self.chunks = ChunkRule(chunk_size=WHOLE_TEXT)
        self.gate_proj = nn.Linear(hidden_dim, num_plan_states) if num_plan_states > 1 else None
        self._where: Tensor
        self.register_buffer("_where", torch.zeros(()), persistent=False)

    @property
    def flops_per_token(self) -> float:
        """2 K D; 0 with one head."""
        return 0 if self.gate_proj is None else 2 * self.gate_proj.weight.numel()

    def _gate(self, hidden: Tensor, policy: PlanPolicy) -> Tensor:
        """hidden [..., D] -> log_gate [..., K]."""
        if self.gate_proj is None:
            return to_filter_dtype(hidden.new_zeros(*hidden.shape[:-1], 1))
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.gate_proj(hidden.to(self.gate_proj.weight.dtype))
        log_weights = to_filter_dtype(logits).log_softmax(-1)
        return log_gate(log_weights, log_weights.new_zeros(()), policy)

    def initial_state(self, batch_size: int) -> PlanState:
        """Nothing to remember but the position."""
        device = self._where.device
        log_belief = to_filter_dtype(torch.zeros(batch_size, self.num_plan_states, device=device)).log_softmax(-1)
        position = torch.zeros(batch_size, dtype=torch.long, device=device)
        return PlanState(log_belief, position, torch.zeros(batch_size, 0, device=device))

    def read(
        self,
        hidden: Tensor,
        token_log_probs: Tensor,
        state: PlanState,
        policy: PlanPolicy,
        *,
        positions: Tensor,
        lengths: Tensor | None,
    ) -> PlanReading:
        """hidden [B, T, D], token_log_probs [B, T, K], positions [1 or B, T], lengths [B] -> PlanReading."""
        seen = to_filter_dtype(token_log_probs)
        gate = self._gate(hidden, policy)
        token_log_prob = log_mean_state(gate, seen)
        last = torch.full_like(state.position, hidden.shape[1])
        if lengths is not None:
            last = lengths
            valid = (torch.arange(hidden.shape[1], device=hidden.device) < lengths.unsqueeze(1)).to(seen.device)
            seen = where_true(valid, seen)
            token_log_prob = token_log_prob.masked_fill(~valid, 0.0)
        segments = self.chunks.segments(positions)
        starts = segments.to(gate.device).at_first(gate)
        filtered = FilterResult(gate, condition(gate, seen), token_log_prob, gate, starts, starts.exp())
        return PlanReading(filtered, segments, None, state_after(state, filtered, positions, last, hidden[..., :0]))

    def enter(self, state: PlanState, hidden: Tensor, policy: PlanPolicy) -> tuple[PlanState, Tensor]:
        """hidden [B, D] of the input just read -> the state with the gate as belief, and log_gate [B, K]."""
        gate = self._gate(hidden, policy)
        return state._replace(log_belief=gate), gate

    def observe(self, state: PlanState, token_log_probs: Tensor, policy: PlanPolicy) -> PlanState:
        """token_log_probs [B, K] of the target that came -> the state after it."""
        return state._replace(log_belief=condition(state.log_belief, token_log_probs), position=state.position + 1)
