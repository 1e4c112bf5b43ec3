"""The planner language model: executor, planner and head joined, for whole sequences and for single steps."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from apelr_model.chunks import ChunkRule
from apelr_model.config import ModelConfig, V1Config
from apelr_model.emissions import state_log_probs, target_log_probs
from apelr_model.executor import Executor, GRUExecutor
from apelr_model.filter import FilterResult, condition, filter_sequence, log_mean_state
from apelr_model.head_v1 import V1Head
from apelr_model.planner import Planner

__all__ = ["ModelState", "PlannerLM", "Prediction", "Reading", "build_model"]


class ModelState(NamedTuple):
    """Where B sequences stand after their last observed target; all that is needed to go on."""

    carry: Tensor
    """The executor's carry: every input up to, not including, the last observed target has been read."""
    log_belief: Tensor
    """[B, K] belief after the last observed target (log pi before the first); float64."""
    position: Tensor
    """[B] number of targets observed."""


class Reading(NamedTuple):
    """What reading a batch of inputs and targets gave."""

    hidden: Tensor
    """[B, T, D] the executor's state after each input."""
    state_log_probs: Tensor
    """[B, T, K] log p(y_t | x_<=t, z = k), nats."""
    filtered: FilterResult
    """Beliefs before and after each target, and the targets' log-probabilities."""
    chunk_index: list[int]
    """The chunk of each of the T targets."""
    state: ModelState
    """Where every row stands after its last (unpadded) target."""


class Prediction(NamedTuple):
    """The model's view of the next target of B sequences, after reading one more input each."""

    log_probs: Tensor
    """[B, V] log p(y | x), the mixture over plan states."""
    state_log_probs: Tensor
    """[B, K, V] log p(y | x, z = k)."""
    log_belief: Tensor
    """[B, K] belief before the target, any boundary crossed; this is the gate."""
    carry: Tensor
    position: Tensor


class PlannerLM(nn.Module):
    """p(y_t | x_<=t) = sum_k b_t(k) p(y_t | h_t, z = k), with b the exactly filtered belief."""

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        *,
        executor: Executor,
        planner: Planner,
        head: V1Head,
        chunks: ChunkRule,
    ) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.executor = executor
        self.planner = planner
        self.head = head
        self.chunks = chunks

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.planner.initial_logits.device

    def initial_state(self, batch_size: int) -> ModelState:
        """The state of `batch_size` sequences of which nothing has been read."""
        log_initial = self.planner.log_initial()
        return ModelState(
            self.executor.initial_carry(batch_size),
            log_initial.expand(batch_size, -1),
            torch.zeros(batch_size, dtype=torch.long, device=self.device),
        )

    def select_rows(self, state: ModelState, rows: Tensor) -> ModelState:
        """The state of the given rows (integers [N]) of the batch, in that order."""
        return ModelState(
            self.executor.select_rows(state.carry, rows),
            state.log_belief.index_select(0, rows.to(state.log_belief.device)),
            state.position.index_select(0, rows),
        )

    def read(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        state: ModelState | None = None,
        lengths: Tensor | None = None,
    ) -> Reading:
        """inputs [B, T], targets [B, T] (the inputs one step on), lengths [B] -> Reading.

        `lengths` counts each row's unpadded targets (right padding; default: all T). `state` goes on from
        an earlier reading; its rows must all stand at the same position, else ValueError. This one
        function serves training, evaluation, scoring and prompt ingestion.
        """
        batch, steps = inputs.shape
        start = self.initial_state(batch) if state is None else state
        first = int(start.position[0])
        if bool((start.position != first).any()):
            raise ValueError("read() needs every row of the state at the same position")
        hidden, carry = self.executor(inputs, start.carry, lengths)
        valid = lengths is None or torch.arange(steps, device=inputs.device) < lengths.unsqueeze(1)
        mask = valid if isinstance(valid, Tensor) else None
        emissions = target_log_probs(self.head, hidden.flatten(0, 1), targets.flatten()).unflatten(0, (batch, steps))
        chunk_index = self.chunks.index(first, steps)
        entered = [t for t in range(steps) if t == 0 or chunk_index[t] != chunk_index[t - 1]]
        filtered = filter_sequence(
            emissions,
            start.log_belief,
            self.planner.log_transition(),
            chunk_index,
            evidence=self.planner.evidence(hidden[:, entered]),
            mask=mask,
            start_chunk=self.chunks.chunk_of(first - 1),
        )
        after = self._state_after(start, carry, filtered, lengths)
        return Reading(hidden, emissions, filtered, chunk_index, after)

    def _state_after(
        self, start: ModelState, carry: Tensor, filtered: FilterResult, lengths: Tensor | None
    ) -> ModelState:
        steps = filtered.log_belief.shape[1]
        if lengths is None:
            return ModelState(carry, filtered.log_belief_after[:, -1], start.position + steps)
        last = (lengths - 1).clamp(min=0).to(filtered.log_belief.device)
        chosen = filtered.log_belief_after[torch.arange(len(last), device=last.device), last]
        untouched = (lengths == 0).to(chosen.device).unsqueeze(1)
        log_belief = torch.where(untouched, start.log_belief.to(chosen), chosen)
        return ModelState(carry, log_belief, start.position + lengths)

    def predict(self, ids: Tensor, state: ModelState) -> Prediction:
        """ids [B]: the input each row reads next -> Prediction of the target that follows it.

        Rows may stand at different positions: each crosses a chunk boundary where its own position says so.
        """
        hidden, carry = self.executor(ids.unsqueeze(1), state.carry)
        hidden = hidden[:, 0]
        log_belief = self.planner.enter(state.log_belief, hidden, self.chunks.crosses(state.position))
        log_probs = state_log_probs(self.head, hidden)
        return Prediction(log_mean_state(log_belief, log_probs), log_probs, log_belief, carry, state.position)

    def observe(self, prediction: Prediction, ids: Tensor) -> ModelState:
        """ids [B]: the target that came -> the state after it."""
        rows = torch.arange(len(ids), device=ids.device)
        seen = prediction.state_log_probs[rows, :, ids]
        return ModelState(prediction.carry, condition(prediction.log_belief, seen), prediction.position + 1)


def build_model(config: ModelConfig, vocab_size: int) -> PlannerLM:
    """The model that a configuration describes, with fresh parameters: the one place that picks a version."""
    if vocab_size < 2:
        raise ValueError(f"vocab_size must be >= 2, got {vocab_size}")
    match config:
        case V1Config():
            return _build_v1(config, vocab_size)
    raise TypeError(f"config must be one of V1Config, got {type(config).__name__}")


def _build_v1(config: V1Config, vocab_size: int) -> PlannerLM:
    return PlannerLM(
        config,
        vocab_size,
        executor=GRUExecutor(
            vocab_size=vocab_size,
            token_dim=config.token_dim,
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            dropout=config.dropout,
        ),
        planner=Planner(
            num_plan_states=config.num_plan_states,
            hidden_dim=config.hidden_dim,
            context_scale=config.planner_context_scale,
            self_bias=config.planner_self_bias,
            boundary_evidence=config.boundary_evidence,
        ),
        head=V1Head(
            vocab_size=vocab_size,
            num_plan_states=config.num_plan_states,
            hidden_dim=config.hidden_dim,
            fusion_dim=config.fusion_dim,
            dropout=config.dropout,
        ),
        chunks=ChunkRule(chunk_size=config.chunk_size, offset=0),
    )
