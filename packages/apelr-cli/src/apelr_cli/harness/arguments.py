"""The `--model_args` of the harness's own command: which checkpoint, how it is read, and interventions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apelr_cli.errors import ConfigError
from apelr_cli.shown import shown
from apelr_cli.typed_reader import TypedReader
from apelr_cli.typed_values import read_text

__all__ = ["ModelArguments", "read_arguments"]

PLAN_NAMES = {
    "force_state": "force_state",
    "freeze_after": "freeze_after",
    "freeze_planner": "freeze_planner",
    "planner_mode": "mode",
    "planner_temperature": "temperature",
    "lookahead_horizon": "lookahead_horizon",
    "lookahead_feedback_scale": "feedback_scale",
}
"""Argument, named as the options of the commands are, and what it sets in the policy."""


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """What the harness's command says about the model."""

    checkpoint: str
    """Checkpoint file, or a run folder for its newest checkpoint."""
    tokenizer: str | None = None
    """Tokenizer file of a checkpoint that carries none."""
    allow_unexpected: bool = False
    """Leave out tensors that the model does not have instead of refusing them."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes what there is."""
    batch_size: int = 16
    """Texts read, or continued, at once."""
    max_gen_toks: int = 256
    """Most tokens generated where a task names no number."""
    seed: int = 0
    """Seed of the first request that samples; request i has seed + i."""
    force_state: int | None = None
    """Give all weight to this plan state."""
    freeze_planner: bool = False
    """Keep the belief, from the end of each prompt, what it is there (generation)."""
    freeze_after: int | None = None
    """Freeze the belief from this position on."""
    planner_mode: Literal["normal", "uniform"] | None = None
    """uniform switches the planner off."""
    planner_temperature: float | None = None
    """Divides the log of the gate's weights."""
    lookahead_horizon: int | None = None
    """Chunks ahead whose forecasts are averaged."""
    lookahead_feedback_scale: float | None = None
    """Share of that forecast in the gate."""
    no_token_filtering: bool = False
    """Let no token update the belief inside a chunk."""

    def rules(self) -> list[tuple[str, object, str, bool]]:
        """Every rule on the fields, with whether it holds; those of the policy are its own."""
        return [
            ("batch_size", self.batch_size, ">= 1", self.batch_size >= 1),
            ("max_gen_toks", self.max_gen_toks, ">= 0", self.max_gen_toks >= 0),
            ("seed", self.seed, ">= 0", self.seed >= 0),
        ]

    def plan(self) -> dict[str, Any]:
        """The interventions, as `choose_policy` takes them."""
        plan = {field: getattr(self, name) for name, field in PLAN_NAMES.items()}
        return {**plan, "token_filtering": False if self.no_token_filtering else None}


def read_arguments(values: Mapping[str, Any]) -> ModelArguments:
    """The arguments from the harness's values. Raises ConfigError with a line for each problem."""
    plain = {name: str(value) if name in ("checkpoint", "tokenizer") else value for name, value in values.items()}
    if plain.get("batch_size") == "auto" or str(plain.get("batch_size")).startswith("auto:"):
        raise ConfigError(f"batch_size must be an integer, got {shown(plain['batch_size'])}: it is not searched for")
    reader = TypedReader(ModelArguments, plain, read_text)
    arguments = reader.read()
    if reader.problems:
        raise ConfigError("\n".join(reader.problems))
    assert isinstance(arguments, ModelArguments), "the reader reads its root class"
    return arguments
