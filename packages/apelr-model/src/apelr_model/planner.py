"""Where the gate over plan states comes from: the interface, and the filtered chain of plans of V1 and V2."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from apelr_model.arithmetic import LOG_ARITHMETIC
from apelr_model.belief import condition, cross_boundary, to_filter_dtype
from apelr_model.chunks import ChunkRule
from apelr_model.commitment import ProbabilityArithmetic, gumbel_commitment
from apelr_model.filter import filter_sequence
from apelr_model.gate import gate_weights, log_gate
from apelr_model.plan_state import PlanReading, PlanState, state_after
from apelr_model.policy import PlanPolicy
from apelr_model.segments import Segments

__all__ = ["FilterPlanner", "Planner", "observed_targets"]


class Planner(nn.Module, ABC):
    """Gives every target a gate over K plan states, for whole sequences and for single steps."""

    num_plan_states: int
    """K."""
    chunks: ChunkRule
    """Where boundaries fall."""

    @property
    @abstractmethod
    def flops_per_token(self) -> float:
        """Floating-point operations of the matrix products in one token's share of the gate."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> PlanState:
        """The state of sequences of which nothing has been read."""

    @abstractmethod
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

    @abstractmethod
    def enter(self, state: PlanState, hidden: Tensor, policy: PlanPolicy) -> tuple[PlanState, Tensor]:
        """hidden [B, D] of the input just read -> the state before its target, and log_gate [B, K]."""

    @abstractmethod
    def observe(self, state: PlanState, token_log_probs: Tensor, policy: PlanPolicy) -> PlanState:
        """token_log_probs [B, K] of the target that came -> the state after it."""


class FilterPlanner(Planner):
    """A Markov chain of plans, one a chunk, whose belief is filtered exactly (docs/math.md).

    Evidence at a boundary is a linear reading of the executor: of its state at the boundary (`last_state`, V1), or of
    the mean of its states over the chunk just completed (`chunk_mean`, V2).
    """

    def __init__(
        self,
        *,
        num_plan_states: int,
        hidden_dim: int,
        context_scale: float,
        self_bias: float,
        boundary_evidence: bool,
        summary: Literal["last_state", "chunk_mean"],
        chunks: ChunkRule,
    ) -> None:
        super().__init__()
        self.num_plan_states = num_plan_states
        self.chunks = chunks
        self.summary = summary
        self.context_scale = context_scale
        self.initial_logits = nn.Parameter(torch.zeros(num_plan_states))
        self.transition_logits = nn.Parameter(self_bias * torch.eye(num_plan_states))
        self.context_proj = nn.Linear(hidden_dim, num_plan_states) if boundary_evidence else None
        self._summed_width = hidden_dim if boundary_evidence and summary == "chunk_mean" else 0
        self.hard_fraction = 0.0
        """Share of sampled commitments at chunk starts, in training mode."""

    @property
    def flops_per_token(self) -> float:
        """2 (K K + K D) / L: a transition and a reading of the text for each chunk."""
        evidence = 0 if self.context_proj is None else self.context_proj.weight.numel()
        return 2 * (self.num_plan_states**2 + evidence) / self.chunks.chunk_size

    def state_parameters(self) -> list[Tensor]:
        """Those that are K equal blocks along their first axis, one for each plan state; without the transitions."""
        evidence = [] if self.context_proj is None else list(self.context_proj.parameters())
        return [self.initial_logits, *evidence]

    def log_initial(self) -> Tensor:
        """-> log-probabilities [K] of the first chunk's plan, log pi."""
        return self.initial_logits.log_softmax(-1)

    def log_transition(self) -> Tensor:
        """-> log-probabilities [K, K], row: from, column: to; every row sums to one."""
        return self.transition_logits.log_softmax(-1)

    def evidence(self, summary: Tensor) -> Tensor | None:
        """summary [..., D] -> log-weights e [..., K], or None without evidence.

        e = context_scale (W s + b), in at least float32 also under autocast.
        """
        if self.context_proj is None:
            return None
        with torch.autocast(summary.device.type, enabled=False):
            evidence: Tensor = self.context_scale * self.context_proj(summary.to(self.context_proj.weight.dtype))
        return evidence

    def initial_state(self, batch_size: int) -> PlanState:
        """log pi for every row."""
        log_belief = to_filter_dtype(self.log_initial()).expand(batch_size, -1)
        position = torch.zeros(batch_size, dtype=torch.long, device=self.initial_logits.device)
        return PlanState(log_belief, position, self.initial_logits.new_zeros(batch_size, self._summed_width))

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
        batch, steps, _ = hidden.shape
        index = torch.arange(steps, device=hidden.device)
        valid = None if lengths is None else index < lengths.unsqueeze(1)
        segments = self.chunks.segments(positions, frozen_from=policy.freeze_after)
        summaries, chunk_sum = self._summaries(hidden, state, segments, positions, valid)
        evidence = self.evidence(summaries)
        log_transition = self.log_transition()
        committed = self.training and self.hard_fraction > 0
        filtered = filter_sequence(
            token_log_probs,
            state.log_belief,
            log_transition,
            segments,
            evidence=evidence,
            mask=valid,
            observed=observed_targets(positions, policy, batch),
            log_restart=self.log_initial(),
            gate=lambda belief: (gate_weights if committed else log_gate)(belief, log_transition, policy),
            arithmetic=ProbabilityArithmetic(lambda b: self._commit(b, policy)) if committed else LOG_ARITHMETIC,
        )
        last = torch.full((batch,), steps, device=hidden.device) if lengths is None else lengths
        return PlanReading(filtered, segments, evidence, state_after(state, filtered, positions, last, chunk_sum))

    def _commit(self, log_belief: Tensor, policy: PlanPolicy) -> Tensor:
        return gumbel_commitment(log_belief, temperature=policy.temperature, hard_fraction=self.hard_fraction)

    def _summaries(
        self, hidden: Tensor, state: PlanState, segments: Segments, positions: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the evidence is read from at each run [B, S, D], and the sums that go on [B, T, D] (by last target)."""
        if not self._summed_width:
            return segments.at_first(hidden), hidden[..., :0]
        inputs = ChunkRule(chunk_size=self.chunks.chunk_size).segments(positions)  # inputs are counted without offset
        values = hidden.to(state.chunk_sum.dtype)
        if valid is not None:
            values = values.masked_fill(~valid.unsqueeze(-1), 0.0)
        sums = inputs.totals(values)
        goes_on = (~inputs.restarts[:, :1] & ~inputs.crosses[:, :1]).to(sums)
        sums = torch.cat([sums[:, :1] + (goes_on * state.chunk_sum).unsqueeze(1), sums[:, 1:]], dim=1)
        by_target = inputs.number.expand(len(hidden), -1).unsqueeze(-1).expand_as(hidden)
        so_far = sums.gather(1, by_target)
        unfinished = ((positions + 1) % self.chunks.chunk_size != 0).unsqueeze(-1)
        return segments.at_first(so_far) / self.chunks.chunk_size, so_far * unfinished

    def enter(self, state: PlanState, hidden: Tensor, policy: PlanPolicy) -> tuple[PlanState, Tensor]:
        """hidden [B, D] of the input just read -> the state before its target, and log_gate [B, K].

        Rows that stand at a chunk boundary go through it; the others stay as they are.
        """
        crosses = self.chunks.crosses(state.position)
        chunk_sum, summary = state.chunk_sum, hidden
        if self._summed_width:
            chunk_sum = chunk_sum + hidden.to(chunk_sum.dtype)
            summary = chunk_sum / self.chunks.chunk_size
            complete = ((state.position + 1) % self.chunks.chunk_size == 0).unsqueeze(-1)
            chunk_sum = chunk_sum.masked_fill(complete, 0.0)
        if policy.freeze_after is not None:
            crosses = crosses & (state.position < policy.freeze_after)
        log_transition, log_belief = self.log_transition(), state.log_belief
        if torch.compiler.is_compiling() or bool(crosses.any()):  # most steps lie inside a chunk
            crossed = cross_boundary(log_belief, log_transition, self.evidence(summary))
            log_belief = torch.where(crosses.to(crossed.device).unsqueeze(-1), crossed, log_belief)
        entered = PlanState(log_belief, state.position, chunk_sum)
        return entered, log_gate(log_belief, log_transition, policy)

    def observe(self, state: PlanState, token_log_probs: Tensor, policy: PlanPolicy) -> PlanState:
        """token_log_probs [B, K] of the target that came -> the state after it."""
        log_belief = state.log_belief
        if policy.token_filtering:
            learnt = condition(log_belief, token_log_probs)
            if policy.freeze_after is not None:
                frozen = (state.position >= policy.freeze_after).to(learnt.device).unsqueeze(-1)
                learnt = torch.where(frozen, log_belief, learnt)
            log_belief = learnt
        return PlanState(log_belief, state.position + 1, state.chunk_sum)


def observed_targets(positions: Tensor, policy: PlanPolicy, batch: int) -> Tensor | None:
    """positions [1 or B, T] -> bool [B, T]: does the belief learn from the target? None where it learns from all."""
    if not policy.token_filtering:
        return torch.zeros_like(positions, dtype=torch.bool).expand(batch, -1)
    if policy.freeze_after is None:
        return None
    return (positions < policy.freeze_after).expand(batch, -1)
