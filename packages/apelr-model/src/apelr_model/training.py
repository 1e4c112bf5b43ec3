"""One optimizer step after another, and nothing else: no disk, no printing, no clock."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from apelr_model.batches import TokenBatch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.checkpoint_checks import compare_tensors
from apelr_model.errors import ImpossibleObservationError, NonFiniteError
from apelr_model.fully_sharded import gathered_model, own_parts, shard, sharded_like, whole_norm
from apelr_model.objective import StepTotals, step_totals
from apelr_model.optim import build_optimizer, learning_rate
from apelr_model.plan_splits import PlanSplit, PlanSplits
from apelr_model.plan_state import PlanState
from apelr_model.planner_lm import PlannerLM
from apelr_model.precision import check_arithmetic, matrix_products
from apelr_model.random_numbers import random_states, restore_random_states
from apelr_model.step_loss import MicroBatch, StepLoss
from apelr_model.step_report import StepReport, figures_of_all
from apelr_model.training_config import LossWeights, OptimConfig
from apelr_model.training_state import check_training_state, read_carried_plan, read_skipped, read_splits
from apelr_model.world import World

__all__ = ["StepReport", "Trainer"]


class Trainer:
    """A model, its optimizer and its loss scaler, at a step; the complete state of training but for the data.

    The data need no state: the rows of step s are a function of the seed and s. The plans that rows hand on to the rows
    of the next step (`TokenBatch.continues`) are part of it.

    In a `world` of several processes each has a trainer of an equal model, and all call the same methods in the same
    order. Each is given its share of a step's rows; losses, gradients and reports are those of all rows together.
    """

    def __init__(
        self,
        model: PlannerLM,
        optim: OptimConfig,
        weights: LossWeights,
        *,
        world: World | None = None,
        sharded: bool = False,
    ) -> None:
        """Raises ValueError where the model's device, or `sharded` parameters, cannot do what `optim` asks for, and
        for weights in fewer bits.

        With `sharded` the processes divide parameters, gradients and moments between them: `model` is no longer of use
        by itself then (`whole_model`). One process alone divides nothing. Each process but the first begins a stream of
        random numbers of its own, for its rows' dropout.
        """
        check_arithmetic(optim, model.device)
        if model.weight_form is not None:
            raise ValueError(f"weights kept in {model.weight_form} cannot be trained; load the checkpoint again")
        if optim.compile:
            model.executor.compile_training()
        device = model.device.type
        self.model = model
        self.optim = optim
        self.weights = weights
        self.world = World() if world is None else world
        self.is_sharded = sharded and self.world.size > 1
        self._step_loss: nn.Module = StepLoss(model, weights)
        if self.is_sharded:
            shard(self._step_loss, self.world, optim)
        else:
            self._step_loss = self.world.summing_gradients(self._step_loss)
        self.optimizer = build_optimizer(model, optim)
        self.scaler = torch.amp.GradScaler(device, enabled=optim.precision == "fp16")
        self.step = 0
        self.skipped = 0  # steps in a row, up to now
        self.splits = PlanSplits(model, optim.split_interval, optim.max_steps) if optim.split_interval else None
        self.carried = CarriedPlan()
        self.world.begin_own_random_numbers()

    def train_step(self, batch: TokenBatch) -> StepReport:
        """Update the parameters once from all rows of `batch`, in `grad_accum_steps` micro-batches.

        NLL and every per-target or per-chunk mean are those of the full batch, and of all processes' batches together;
        gradients are summed over the processes once a step. Where a term or the gradient is NaN or infinite, in any
        process, the parameters stay as they are: the step is skipped, and rows that would go on from it begin afresh;
        after `skip_non_finite` such steps in a row NonFiniteError is raised. (Under fp16 the scaler looks after the
        gradient: it skips the step and lowers its scale, which is how it finds its scale.) Matrix products are as exact
        as the optimizer's configuration says within a step, and nowhere else.
        """
        with matrix_products(self.optim), self.world.needing_all():
            return self._step(batch)

    def _step(self, batch: TokenBatch) -> StepReport:
        rate = learning_rate(self.optim, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self.model.train()
        self.model.set_schedule(self.step, self.optim.max_steps)
        self.optimizer.zero_grad(set_to_none=True)
        totals = self._totals(batch)
        try:
            made = self._accumulate(batch, totals)
            norm = self._clip()
            if not self.scaler.is_enabled() and not bool(torch.isfinite(norm)):
                reason = f"the gradient's norm is {float(norm)} at step {self.step}, with every loss term finite"
                raise NonFiniteError(f"{reason}; no parameter was changed")
        except NonFiniteError as error:
            return self._skip(error, rate, totals.targets)
        self.skipped = 0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.model.set_schedule(self.step, self.optim.max_steps)
        figures = figures_of_all(made, self.world)
        splits: tuple[PlanSplit, ...] = ()
        if self.splits is not None and figures.scores is not None:
            self.splits.see(figures.scores, figures.usage)
            splits = self.splits.after(self.step, self.optimizer, self.carried)
        usage = tuple(figures.usage.tolist())
        return StepReport(self.step, figures.loss, figures.terms, rate, float(norm), totals.targets, usage, splits)

    def _totals(self, batch: TokenBatch) -> StepTotals:
        """The counts of the rows of all processes."""
        own = step_totals(self.model, batch, self.weights, micro_batches=self.optim.grad_accum_steps)
        return StepTotals(*self.world.total(torch.tensor(own)).tolist())

    def _accumulate(self, batch: TokenBatch, totals: StepTotals) -> list[dict[str, Tensor]]:
        """Add up the gradients of all micro-batches; each one's figures by name, still on the device.

        Those of other processes come with the last micro-batch, of shards with each, when it is known that none failed.
        """
        parts = self.optim.grad_accum_steps
        with_scores = self.splits is not None and self.step < self.splits.last
        made: list[dict[str, Tensor]] = []
        after: list[PlanState] = []
        with self.world.failing_together(NonFiniteError, ImpossibleObservationError) as agree:
            for micro, carried in zip(batch.split(parts), self.carried.split(batch, parts), strict=True):
                is_last = len(made) == parts - 1
                with nullcontext() if is_last else self.world.keeping_gradients(self._step_loss):
                    with torch.autocast(
                        self.model.device.type,
                        dtype=self.optim.dtype,
                        enabled=self.optim.precision != "fp32",
                    ):
                        when_read = partial(agree, is_last) if is_last or self.is_sharded else None
                        given = MicroBatch(micro, totals, carried, self.step, with_scores, when_read)
                        loss, found, left = self._step_loss(given)
                    self.scaler.scale(loss).backward()
                made.append(found)
                after.append(left)
        self.carried.keep_after(batch, after)
        return made

    def _skip(self, error: NonFiniteError, rate: float, targets: int) -> StepReport:
        """Leave the step out, where it may be. Raises NonFiniteError where too many have been."""
        self.optimizer.zero_grad(set_to_none=True)
        reason = f"{error}; the learning rate was {rate:.3g}"
        if self.skipped >= self.optim.skip_non_finite:
            before = f"; the {self.skipped} step(s) before it were skipped for the like" if self.skipped else ""
            raise NonFiniteError(f"{reason}{before}") from error
        self.skipped += 1
        self.step += 1
        self.model.set_schedule(self.step, self.optim.max_steps)
        self.carried = CarriedPlan()
        return StepReport(self.step, math.nan, {}, rate, math.nan, targets, (), skipped=reason)

    def _clip(self) -> Tensor:
        self.scaler.unscale_(self.optimizer)
        limit = self.optim.grad_clip if self.optim.grad_clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return whole_norm(norm) if self.is_sharded else norm

    def whole_model(self) -> PlannerLM:
        """The model with whole parameters, to use and not to train: all processes call this, any may use it alone."""
        if not self.is_sharded:
            return self.model
        with self.world.needing_all():
            whole = gathered_model(self.model)
        whole.set_schedule(self.step, self.optim.max_steps)
        return whole

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-for-bit continuation needs: model, optimizer, scaler, step, RNG states.

        The same in every process: of the plans that rows hand on, and of RNG states, those of all. Of tensors that are
        sharded each process has its own part (`TensorPart`).
        """
        carried = self.carried.gathered(self.world).state
        of_model, of_optimizer = self.model.state_dict(), self.optimizer.state_dict()
        return {
            "model": own_parts(of_model) if self.is_sharded else of_model,
            "optimizer": own_parts(of_optimizer) if self.is_sharded else of_optimizer,
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "skipped": self.skipped,
            "rng": random_states(self.model.device, self.world),
            "carried": None if carried is None else carried._asdict(),
            "splits": None if self.splits is None else self.splits.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, restore_rng: bool = True) -> None:
        """Take up the state that `state_dict` gave, strict about names and shapes; CheckpointError names what differs.

        Hyperparameters (learning rate, weight decay) stay those of this trainer's own configuration. The number of
        processes may be another: each takes its share of the plans, and one that has no stored RNG state begins a
        stream of its own. Without `restore_rng` the random number generators are left as they are, no row goes on with
        a plan of before, and what the plan states are worth is measured anew.
        """
        compare_tensors(state["model"], self.model.state_dict(), "the checkpoint")
        own_scaler = self.scaler.state_dict()
        check_training_state(state, self.optimizer, own_scaler, "the checkpoint", with_rng=restore_rng)
        stored = state.get("carried") if restore_rng else None
        carried = read_carried_plan(stored, self.model.planner.initial_state(1), "the checkpoint")
        splits = read_splits(state.get("splits") if restore_rng else None, self.splits, "the checkpoint")
        skipped = read_skipped(state.get("skipped", 0) if restore_rng else 0, "the checkpoint")
        self._load_model(state["model"])
        own = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        groups = [{**stored, **values} for stored, values in zip(state["optimizer"]["param_groups"], own, strict=True)]
        moments = self._own_moments(state["optimizer"]["state"])
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self.skipped = skipped
        self.carried = CarriedPlan(carried).of(self.world)
        if self.splits is not None and splits is not None:
            self.splits.record, self.splits.state = splits
        if restore_rng:
            restore_random_states(state["rng"], self.model.device, self.world)

    def _load_model(self, tensors: Mapping[str, Tensor]) -> None:
        if self.is_sharded:
            own = self.model.state_dict()
            tensors = {name: sharded_like(tensor, own[name]) for name, tensor in tensors.items()}
        self.model.load_state_dict(tensors, strict=True)

    def _own_moments(self, stored: Mapping[int, Mapping[str, Tensor]]) -> Mapping[int, Mapping[str, Tensor]]:
        """Of each parameter the moments, sharded as it is."""
        if not self.is_sharded:
            return stored
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return {
            index: {
                name: sharded_like(value, parameters[index]) if value.ndim else value for name, value in moments.items()
            }
            for index, moments in stored.items()
        }
