"""A micro-batch's loss as the forward pass of one module, which is where PyTorch's data parallelism takes hold."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from apelr_model.batches import TokenBatch
from apelr_model.carried_plan import CarriedPlan
from apelr_model.objective import TERM_NAMES, StepTotals, loss_terms, total_loss
from apelr_model.plan_state import PlanState
from apelr_model.planner_lm import PlannerLM
from apelr_model.training_config import LossWeights

__all__ = ["MicroBatch", "StepLoss"]


class MicroBatch(NamedTuple):
    """What the loss of a micro-batch is made from."""

    batch: TokenBatch
    totals: StepTotals
    carried: CarriedPlan
    """Where the rows go on from."""
    step: int
    with_scores: bool
    when_read: Callable[[], None] | None = None
    """Called when the loss is there: where it raises, no process waits for another's gradients."""


class StepLoss(nn.Module):
    """Forward: a micro-batch -> its loss, the only tensor with a gradient; its figures by name; its rows' plans."""

    def __init__(self, model: PlannerLM, weights: LossWeights) -> None:
        super().__init__()
        self.model = model
        self._weights = weights
        self.complete: Callable[[Tensor], Tensor] = lambda loss: loss
        """Makes of the loss, when all processes have theirs, the one to go backwards from."""

    def forward(self, micro: MicroBatch) -> tuple[Tensor, dict[str, Tensor], PlanState]:
        """Raises ImpossibleObservationError and NonFiniteError."""
        carried = micro.carried.before(self.model.planner, micro.batch)
        terms = loss_terms(
            self.model,
            micro.batch,
            self._weights,
            totals=micro.totals,
            plan=carried,
            with_scores=micro.with_scores,
        )
        loss = total_loss(terms, self._weights, micro.step)
        found = {name: getattr(terms, name) for name in ("usage", "scores", *TERM_NAMES)} | {"loss": loss.detach()}
        if micro.when_read is not None:
            micro.when_read()
        loss = self.complete(loss)
        assert terms.plan is not None, "a batch that has been read leaves its plans somewhere"
        plan = PlanState(*(tensor.detach() for tensor in terms.plan))
        return loss, {name: part.detach() for name, part in found.items() if part is not None}, plan
