"""The planner language model: executor, planner and head joined, for whole sequences and for single steps."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from apelr_model.belief import log_mean_state
from apelr_model.chunks import ChunkRule
from apelr_model.config import ModelConfig, V2Config
from apelr_model.emissions import state_log_probs, target_log_probs
from apelr_model.executor import Carry, Executor
from apelr_model.filter import FilterResult
from apelr_model.fixed_carry import FixedCarry
from apelr_model.head import Head
from apelr_model.plain_forms import fast_forms
from apelr_model.plan_state import PlanState
from apelr_model.planner import FilterPlanner, Planner
from apelr_model.planner_versions import V2Planner
from apelr_model.policy import EXACT, PlanPolicy
from apelr_model.policy_check import check_policy
from apelr_model.segments import Segments

__all__ = ["ModelState", "PlannerLM", "Prediction", "Reading"]


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


class PlannerLM(nn.Module):
    """p(y_t | x_<=t) = sum_k gate_t(k) p(y_t | h_t, z = k): the gate is made by the planner, in all but its controls
    from the exactly filtered belief.

    Any `Executor`, `Planner` and `Head` can be joined; `build_model` joins those that a configuration names. Where a
    method takes a `policy`, None means the model's own (`policy`).
    """

    def __init__(
        self, config: ModelConfig, vocab_size: int, *, executor: Executor, planner: Planner, head: Head
    ) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.executor = executor
        self.planner = planner
        self.head = head
        self._compiled_step: Callable[..., tuple[Tensor, Tensor, Tensor, PlanState]] | None = None

    @property
    def num_plan_states(self) -> int:
        """K; 1 in a model without a plan."""
        return self.planner.num_plan_states

    @property
    def chunks(self) -> ChunkRule:
        """Where chunk boundaries fall."""
        return self.planner.chunks

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def policy(self) -> PlanPolicy:
        """The model's own use of its belief: `EXACT`, or what a V2 configuration and its temperature say."""
        if not isinstance(self.config, V2Config) or not isinstance(self.planner, V2Planner):
            return EXACT
        return PlanPolicy(
            temperature=float(self.planner.temperature),
            lookahead_horizon=self.config.lookahead_horizon,
            feedback_scale=self.config.lookahead_feedback_scale,
            token_filtering=self.config.token_filtering,
        )

    def check_policy(self, policy: PlanPolicy) -> PlanPolicy:
        """The policy itself; ValueError with a line for each of its fields that this version does not have."""
        check_policy(policy, self.config, self.num_plan_states)
        return policy

    def set_schedule(self, step: int, max_steps: int) -> None:
        """Set what a V2 configuration lets depend on the optimizer step: planner temperature and hard fraction."""
        if isinstance(self.config, V2Config) and isinstance(self.planner, V2Planner):
            self.planner.temperature.fill_(self.config.temperature_at(step, max_steps))
            self.planner.hard_fraction = self.config.hard_fraction_at(step)

    def initial_state(self, batch_size: int) -> ModelState:
        """The state of `batch_size` sequences of which nothing has been read."""
        return ModelState(self.executor.initial_carry(batch_size), self.planner.initial_state(batch_size))

    def select_rows(self, state: ModelState, rows: Tensor) -> ModelState:
        """The state of the given rows (integers [N]) of the batch, in that order."""
        plan = PlanState(*(tensor.index_select(0, rows.to(tensor.device)) for tensor in state.plan))
        return ModelState(self.executor.select_rows(state.carry, rows), plan)

    def read(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        state: ModelState | None = None,
        lengths: Tensor | None = None,
        positions: Tensor | None = None,
        policy: PlanPolicy | None = None,
        keep_state: bool = True,
    ) -> Reading:
        """inputs [B, T], targets [B, T] (the inputs one step on), lengths [B], positions [B, T] -> Reading.

        `lengths` counts each row's unpadded targets (right padding; default: all T). `state` goes on from an earlier
        reading. `positions` counts the targets of the same document before each target (default: on from the state);
        where it is 0, executor and belief start afresh. Without `keep_state` the executor need not remember anything
        for later (a transformer keeps no keys), and the state that comes back cannot be gone on from. This one
        function serves training, evaluation, scoring and prompt ingestion.
        """
        batch, steps = inputs.shape
        start = self.initial_state(batch) if state is None else state
        policy = self.policy if policy is None else self.check_policy(policy)
        restarts = None
        if positions is None:
            positions = _clock(start.position, steps)
        else:
            restarts = positions == 0
            if state is None:
                restarts[:, 0] = False
        carried = start.carry if keep_state or state is not None else None
        hidden, carry = self.executor(inputs, carried, lengths=lengths, restarts=restarts)
        found = target_log_probs(self.head, hidden.flatten(0, 1), targets.flatten()).unflatten(0, (batch, steps))
        plan = self.planner.read(
            hidden,
            found,
            start.plan,
            policy,
            positions=positions,
            lengths=lengths,
        )
        return Reading(
            hidden,
            found,
            plan.filtered,
            plan.segments,
            plan.evidence,
            positions,
            start.plan.log_belief,
            ModelState(carry, plan.state),
        )

    def predict(self, ids: Tensor, state: ModelState, *, policy: PlanPolicy | None = None) -> Prediction:
        """ids [B]: the input each row reads next -> Prediction of the target that follows it.

        Rows may stand at different positions: each crosses a chunk boundary where its own position says so.
        """
        policy = self.policy if policy is None else self.check_policy(policy)
        if isinstance(state.carry, FixedCarry) and self._compiled_step is not None:
            return Prediction(*self._compiled_step(ids, state.carry, state.plan, policy), carry=state.carry)
        hidden, carry = self.executor(ids.unsqueeze(1), state.carry)
        return Prediction(*self._expect(hidden[:, 0], state.plan, policy), carry=carry)

    def _expect(self, hidden: Tensor, plan: PlanState, policy: PlanPolicy) -> tuple[Tensor, Tensor, Tensor, PlanState]:
        """hidden [B, D] of the input just read -> the first four parts of a Prediction."""
        entered, gate = self.planner.enter(plan, hidden, policy)
        log_probs = state_log_probs(self.head, hidden)
        return log_mean_state(gate, log_probs), log_probs, gate, entered

    def compile_decoding(self) -> None:
        """From now on, `generate` runs each step but the draw through `torch.compile`: the same values to rounding.

        The first step of each kind of batch (one row, several) is compiled, which takes seconds to a minute. Raises
        ValueError for an executor that has no step in fixed shapes.
        """
        self.executor.fixed_carry(self.executor.initial_carry(1), batch_size=1, room=1)

        def step(
            ids: Tensor, carry: FixedCarry, plan: PlanState, policy: PlanPolicy
        ) -> tuple[Tensor, Tensor, Tensor, PlanState]:
            return self._expect(self.executor.fixed_step(ids, carry), plan, policy)

        self._compiled_step = torch.compile(step, fullgraph=True)

    def begin_decoding(self, state: ModelState, room: int) -> ModelState:
        """The state for reading up to `room` more ids by `predict`, once: where it is compiled, in fixed shapes."""
        if self._compiled_step is None or not fast_forms():
            return state
        batch = len(state.position)
        return state._replace(carry=self.executor.fixed_carry(state.carry, batch_size=batch, room=room))

    def observe(self, prediction: Prediction, ids: Tensor, *, policy: PlanPolicy | None = None) -> ModelState:
        """ids [B]: the target that came -> the state after it."""
        rows = torch.arange(len(ids), device=ids.device)
        seen = prediction.state_log_probs[rows, :, ids]
        plan = self.planner.observe(prediction.plan, seen, self.policy if policy is None else self.check_policy(policy))
        return ModelState(prediction.carry, plan)

    def log_transition(self) -> Tensor:
        """-> log P [K, K]; ValueError in a control, which has no plan to carry on."""
        if not isinstance(self.planner, FilterPlanner):
            raise ValueError(f"{self.config.version} has no plan to look ahead with")
        return self.planner.log_transition()


def _clock(position: Tensor, steps: int) -> Tensor:
    """position [B] -> [1, T] where all rows stand at the same one, else [B, T]."""
    alike = bool((position == position[0]).all())
    start = position[:1] if alike else position
    return start.unsqueeze(1) + torch.arange(steps, device=position.device)
