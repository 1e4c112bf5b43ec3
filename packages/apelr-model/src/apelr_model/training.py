"""One optimizer step after another, and nothing else: no disk, no printing, no clock."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from apelr_model.batches import TokenBatch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.checkpoint_checks import compare_tensors
from apelr_model.errors import NonFiniteError
from apelr_model.objective import TERM_NAMES, loss_terms, step_totals, total_loss
from apelr_model.optim import build_optimizer, learning_rate
from apelr_model.plan_splits import PlanSplit, PlanSplits
from apelr_model.planner_lm import PlannerLM
from apelr_model.precision import check_arithmetic, matrix_products
from apelr_model.training_config import LossWeights, OptimConfig
from apelr_model.training_state import check_training_state, read_carried_plan, read_skipped, read_splits

__all__ = ["StepReport", "Trainer"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class StepReport(NamedTuple):
    """What one optimizer step did."""

    step: int
    """How many steps have been made, this one included."""
    loss: float
    """The weighted sum of all terms, nats."""
    terms: dict[str, float]
    """Every term that has a weight, and `nll`, by name; nats."""
    learning_rate: float
    grad_norm: float
    """Norm of the gradient before clipping."""
    targets: int
    """Unpadded targets in the step's rows."""
    usage: tuple[float, ...]
    """[K] mean probability of each plan state after a target, over the step's rows."""
    splits: tuple[PlanSplit, ...] = ()
    """Plan states that were given up after the step for copies of others (`split_interval`)."""
    skipped: str | None = None
    """Why no parameter was changed (`skip_non_finite`): then there are no terms, and the other figures are NaN."""


class Trainer:
    """A model, its optimizer and its loss scaler, at a step; the complete state of training but for the data.

    The data need no state: the rows of step s are a function of the seed and s. The plans that rows hand on to the rows
    of the next step (`TokenBatch.continues`) are part of it.
    """

    def __init__(self, model: PlannerLM, optim: OptimConfig, weights: LossWeights) -> None:
        """Raises ValueError where the model's device cannot do what `optim` asks for."""
        check_arithmetic(optim, model.device)
        if optim.compile:
            model.executor.compile_training()
        device = model.device.type
        self.model = model
        self.optim = optim
        self.weights = weights
        self.optimizer = build_optimizer(model, optim)
        self.scaler = torch.amp.GradScaler(device, enabled=optim.precision == "fp16")
        self.step = 0
        self.skipped = 0  # steps in a row, up to now
        self.splits = PlanSplits(model, optim.split_interval, optim.max_steps) if optim.split_interval else None
        self.carried = CarriedPlan()

    def train_step(self, batch: TokenBatch) -> StepReport:
        """Update the parameters once from all rows of `batch`, in `grad_accum_steps` micro-batches.

        NLL and every per-target or per-chunk mean are those of the full batch. Where a term or the gradient is NaN or
        infinite the parameters stay as they are: the step is skipped, and rows that would go on from it begin afresh;
        after `skip_non_finite` such steps in a row NonFiniteError is raised. (Under fp16 the scaler looks after the
        gradient: it skips the step and lowers its scale, which is how it finds its scale.) Matrix products are as exact
        as the optimizer's configuration says within a step, and nowhere else.
        """
        with matrix_products(self.optim):
            return self._step(batch)

    def _step(self, batch: TokenBatch) -> StepReport:
        rate = learning_rate(self.optim, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self.model.train()
        self.model.set_schedule(self.step, self.optim.max_steps)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            made = self._accumulate(batch)
            norm = self._clip()
            if not self.scaler.is_enabled() and not bool(torch.isfinite(norm)):
                reason = f"the gradient's norm is {float(norm)} at step {self.step}, with every loss term finite"
                raise NonFiniteError(f"{reason}; no parameter was changed")
        except NonFiniteError as error:
            return self._skip(error, rate, batch)
        self.skipped = 0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.model.set_schedule(self.step, self.optim.max_steps)
        figures = _figures(made)
        splits: tuple[PlanSplit, ...] = ()
        if self.splits is not None and figures.scores is not None:
            self.splits.see(figures.scores, figures.usage)
            splits = self.splits.after(self.step, self.optimizer, self.carried)
        usage, targets = tuple(figures.usage.tolist()), int(batch.lengths.sum())
        return StepReport(self.step, figures.loss, figures.terms, rate, float(norm), targets, usage, splits)

    def _accumulate(self, batch: TokenBatch) -> list[dict[str, Tensor]]:
        """Add up the gradients of all micro-batches; each one's figures by name, still on the device."""
        parts = self.optim.grad_accum_steps
        with_scores = self.splits is not None and self.step < self.splits.last
        totals = step_totals(self.model, batch, self.weights, micro_batches=parts)
        made = []
        after = []
        for micro, carried in zip(batch.split(parts), self.carried.split(batch, parts), strict=True):
            plan = carried.before(self.model.planner, micro)
            with torch.autocast(
                self.model.device.type,
                dtype=DTYPES[self.optim.precision],
                enabled=self.optim.precision != "fp32",
            ):
                terms = loss_terms(self.model, micro, self.weights, totals=totals, plan=plan, with_scores=with_scores)
            loss = total_loss(terms, self.weights, self.step)
            self.scaler.scale(loss).backward()
            assert terms.plan is not None, "a batch that has been read leaves its plans somewhere"
            after.append(terms.plan)
            found = {name: getattr(terms, name) for name in ("usage", "scores", *TERM_NAMES)}
            made.append({name: part.detach() for name, part in (found | {"loss": loss}).items() if part is not None})
        self.carried.keep_after(batch, after)
        return made

    def _skip(self, error: NonFiniteError, rate: float, batch: TokenBatch) -> StepReport:
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
        return StepReport(self.step, math.nan, {}, rate, math.nan, int(batch.lengths.sum()), (), skipped=reason)

    def _clip(self) -> Tensor:
        self.scaler.unscale_(self.optimizer)
        limit = self.optim.grad_clip if self.optim.grad_clip > 0 else float("inf")
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-for-bit continuation needs: model, optimizer, scaler, step, RNG states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "skipped": self.skipped,
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "carried": None if self.carried.state is None else self.carried.state._asdict(),
            "splits": None if self.splits is None else self.splits.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, restore_rng: bool = True) -> None:
        """Take up the state that `state_dict` gave, strict about names and shapes; CheckpointError names what differs.

        Hyperparameters (learning rate, weight decay) stay those of this trainer's own configuration. Without
        `restore_rng` the random number generators are left as they are, no row goes on with a plan of before, and what
        the plan states are worth is measured anew.
        """
        compare_tensors(state["model"], self.model.state_dict(), "the checkpoint")
        own_scaler = self.scaler.state_dict()
        check_training_state(state, self.optimizer, own_scaler, "the checkpoint", with_rng=restore_rng)
        stored = state.get("carried") if restore_rng else None
        carried = read_carried_plan(stored, self.model.planner.initial_state(1), "the checkpoint")
        splits = read_splits(state.get("splits") if restore_rng else None, self.splits, "the checkpoint")
        skipped = read_skipped(state.get("skipped", 0) if restore_rng else 0, "the checkpoint")
        self.model.load_state_dict(state["model"], strict=True)
        own = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        groups = [{**stored, **values} for stored, values in zip(state["optimizer"]["param_groups"], own, strict=True)]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self.skipped = skipped
        self.carried = CarriedPlan(carried)
        if self.splits is not None and splits is not None:
            self.splits.record, self.splits.state = splits
        if restore_rng:
            torch.set_rng_state(state["rng"]["cpu"].cpu())
            if state["rng"]["cuda"] and torch.cuda.is_available():
                torch.cuda.set_rng_state_all([s.cpu() for s in state["rng"]["cuda"]])


class _Figures(NamedTuple):
    """A step's numbers, on the CPU."""

    loss: float
    terms: dict[str, float]
    usage: Tensor
    scores: Tensor | None


def _figures(made: list[dict[str, Tensor]]) -> _Figures:
    """Those of the full batch, from its micro-batches'."""
    usage, scores = (_sum([parts.pop(name) for parts in made if name in parts]) for name in ("usage", "scores"))
    assert usage is not None, "every micro-batch has its usage"
    sums = {name: sum(float(parts[name]) for parts in made) for name in made[0]}
    return _Figures(sums.pop("loss"), sums, usage, scores)


def _sum(parts: list[Tensor]) -> Tensor | None:
    return torch.stack([part.cpu().double() for part in parts]).sum(0) if parts else None
