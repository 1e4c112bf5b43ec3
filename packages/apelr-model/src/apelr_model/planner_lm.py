"""The planner language model: executor, planner and head joined, for whole sequences and for single steps."""

import torch
from torch import Tensor, nn

from apelr_model.belief import log_mean_state
from apelr_model.chunks import ChunkRule
from apelr_model.compiled_step import CompiledStep, Expected, compiled_step
from apelr_model.config import ModelConfig, V2Config
from apelr_model.emissions import state_log_probs, target_log_probs
from apelr_model.executor import Executor
from apelr_model.fixed_carry import FixedCarry
from apelr_model.head import Head
from apelr_model.low_precision import WeightForm, keep_in
from apelr_model.model_state import ModelState, Prediction, Reading
from apelr_model.plain_forms import fast_forms
from apelr_model.plan_state import PlanState
from apelr_model.planner import FilterPlanner, Planner
from apelr_model.planner_versions import V2Planner
from apelr_model.policy import EXACT, PlanPolicy
from apelr_model.policy_check import check_policy

__all__ = ["PlannerLM", "next_positions"]


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
        self.weight_form: WeightForm | None = None
        """What the weights are kept in by `keep_weights`; None: as they were made."""
        self._compiled_step: CompiledStep | None = None

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
        if isinstance(state.carry, FixedCarry):
            return ModelState(state.carry.select_rows(rows), plan)
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
            positions = next_positions(start.position, steps)
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

        Rows may stand at different positions: each crosses a chunk boundary where its own position says so. Raises
        ValueError after more calls than `begin_decoding` made room for.
        """
        policy = self.policy if policy is None else self.check_policy(policy)
        if isinstance(state.carry, FixedCarry) and self._compiled_step is not None:
            left = state.carry.less_one()
            return Prediction(*self._compiled_step(ids, left, state.plan, policy), carry=left)
        hidden, carry = self.executor(ids.unsqueeze(1), state.carry)
        return Prediction(*self._expect(hidden[:, 0], state.plan, policy), carry=carry)

    def _expect(self, hidden: Tensor, plan: PlanState, policy: PlanPolicy) -> Expected:
        """hidden [B, D] of the input just read -> a Prediction without its carry."""
        entered, gate = self.planner.enter(plan, hidden, policy)
        log_probs = state_log_probs(self.head, hidden)
        return log_mean_state(gate, log_probs), log_probs, gate, entered

    def compile_decoding(self) -> None:
        """From now on `generate` runs all of a step but the draw as one compiled function: the same values to rounding.

        Each kind of batch (one row, several, another use of the belief) is compiled when it first comes, which takes
        seconds; one more than `torch._dynamo.config.recompile_limit` (8) is a ValueError then. `plain_forms` leaves the
        compiled function unused. Raises ValueError for an executor without a step in fixed shapes, and where PyTorch
        can compile nothing.
        """
        self._compiled_step = compiled_step(self.executor, self._expect, self.device)

    def begin_decoding(self, state: ModelState, room: int) -> ModelState:
        """The state for `room` more calls of `predict`: where they are compiled, one that they write into."""
        if self._compiled_step is None or not fast_forms():
            return state
        carry = self.executor.fixed_carry(state.carry, batch_size=len(state.position), room=room)
        plan = PlanState(*(tensor.contiguous() for tensor in state.plan))  # another layout would be compiled anew
        return ModelState(carry._replace(room=room), plan)

    def keep_weights(self, form: WeightForm) -> None:
        """Keep the matrices of executor and head in "bf16" or "int8" from now on, for inference alone.

        int8 has a scale for each row. Everything is computed in float32 as before; compiled decoding of one row becomes
        faster, all else slower. Raises ValueError for another form, and for weights that are not float32.
        """
        assert isinstance(self.head, nn.Module), "a head with parameters is a module"
        keep_in(form, self.executor, self.head)
        self.weight_form = form

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


def next_positions(position: Tensor, steps: int) -> Tensor:
    """position [B] -> the next T positions of each row: [1, T] where all rows stand at the same one, else [B, T]."""
    alike = bool((position == position[0]).all())
    start = position[:1] if alike else position
    return start.unsqueeze(1) + torch.arange(steps, device=position.device)
