"""How a belief is turned into weights for the next token: temperature, lookahead feedback and interventions."""

from dataclasses import dataclass
from typing import Literal

from apelr_model.rules import COUNT_RULE, LARGEST_COUNT, Rule, check_rules

__all__ = ["EXACT", "PlanPolicy", "temperature_rule"]

LARGEST_TEMPERATURE = 10**28
SMALLEST_TEMPERATURE = 1 / LARGEST_TEMPERATURE
"""Beyond these a model's own numbers (float32) could round a temperature to zero or infinity."""


def temperature_rule(name: str, value: float) -> Rule:
    """What a planner temperature must be, wherever it stands."""
    rule = f"between {SMALLEST_TEMPERATURE:g} and {LARGEST_TEMPERATURE:g}"
    return (name, value, rule, SMALLEST_TEMPERATURE <= value <= LARGEST_TEMPERATURE)


@dataclass(frozen=True, kw_only=True)
class PlanPolicy:
    """The use that is made of the belief. With the defaults the gate is the belief, and every likelihood is exact.

    Anything else is a causal policy on the same beliefs: it uses no text that has not been read, and its
    probabilities sum to one, but they are not those of the model's own generative story.
    """

    temperature: float = 1.0
    """Divides the log of the gate's weights; below 1 sharpens the gate, above 1 flattens it."""
    lookahead_horizon: int = 1
    """H, chunks ahead whose forecasts are averaged."""
    feedback_scale: float = 0.0
    """Share of that forecast in the gate, 0 to 1."""
    token_filtering: bool = True
    """Whether tokens update the belief inside a chunk."""
    mode: Literal["normal", "uniform"] = "normal"
    """`uniform` gives every plan state the same weight: the planner is switched off."""
    force_state: int | None = None
    """Give all weight to this plan state (0 is the first); None forces none."""
    freeze_after: int | None = None
    """From the target at this position on, neither tokens nor boundaries change the belief; None never freezes."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        force, freeze = self.force_state, self.freeze_after
        return [
            temperature_rule("temperature", self.temperature),
            ("lookahead_horizon", self.lookahead_horizon, COUNT_RULE, 1 <= self.lookahead_horizon <= LARGEST_COUNT),
            ("feedback_scale", self.feedback_scale, "between 0 and 1", 0 <= self.feedback_scale <= 1),
            ("mode", self.mode, "normal or uniform", self.mode in ("normal", "uniform")),
            ("force_state", force, "null or >= 0", force is None or force >= 0),
            ("force_state", force, "null when mode is uniform", force is None or self.mode == "normal"),
            (
                "freeze_after",
                freeze,
                "null or between 0 and 2^62",
                freeze is None or 0 <= freeze <= LARGEST_COUNT,
            ),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())

    @property
    def gate_is_belief(self) -> bool:
        """True where the gate needs no arithmetic of its own."""
        return self.temperature == 1 and self.feedback_scale == 0 and self.mode == "normal" and self.force_state is None


EXACT = PlanPolicy()
"""The policy whose gate is the belief."""
