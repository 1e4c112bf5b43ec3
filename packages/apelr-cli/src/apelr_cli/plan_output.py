"""What is shown of the plan: the belief before each target, or the plan given the whole text."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from apelr_model import Score, smooth_plans, viterbi_plans

__all__ = ["PlanKind", "ShownPlans", "likeliest", "shown_plans"]

PlanKind = Literal["filtered", "smoothed", "viterbi"]


def likeliest(belief: Sequence[float]) -> int:
    """The most probable plan state, of several the first."""
    return max(range(len(belief)), key=belief.__getitem__)


class ShownPlans(NamedTuple):
    """The plan of each target, and what is said of the whole text."""

    key: str
    """The name in a JSON target."""
    heading: str
    """The column's name in the table."""
    by_target: Tensor
    """[T, K] log-probabilities, or [T] plan states."""
    totals: dict[str, float | list[int]]
    """What the JSON object says of the whole text."""
    summary: tuple[str, ...] = ()
    """The same as lines of the summary."""

    def values(self, start: int, end: int) -> list[list[float] | int]:
        """The targets from `start` to `end`: K probabilities or one state for each."""
        part = self.by_target[start:end]
        found: list[list[float] | int] = part.exp().tolist() if part.is_floating_point() else part.tolist()
        return found


def shown_plans(score: Score, kind: PlanKind) -> ShownPlans:
    """What to show of a `Score`, which has its trellis unless only filtered beliefs are wanted."""
    if kind == "filtered":
        return ShownPlans("belief", "likely plan", score.log_belief, {})
    trellis = score.trellis
    assert trellis is not None
    if kind == "smoothed":
        smoothed = smooth_plans(trellis)
        entropy = float(smoothed.path_entropy)
        line = f"plan entropy    {entropy:.4f} nats, of the path of {trellis.runs.runs} plans given the text"
        by_target = trellis.at_targets(smoothed.log_posterior)[0]
        return ShownPlans("posterior", "smoothed", by_target, {"plan_entropy": entropy}, (line,))
    best = viterbi_plans(trellis)
    path, log_prob = best.plans[0].tolist(), float(best.log_posterior)
    line = f"plan path       log-probability {log_prob:.4f} nats given the text, {len(path)} plans"
    totals: dict[str, float | list[int]] = {"plan_path": path, "plan_log_prob": log_prob}
    return ShownPlans("plan", "plan", trellis.at_targets(best.plans)[0], totals, (line,))
