"""The configurations of the model versions: frozen, and the one home of every default."""

from dataclasses import dataclass, field
from typing import Literal

from apelr_model.executor_config import ExecutorConfig, GRUConfig, executor_rules
from apelr_model.head_config import DenseHeadConfig, HeadConfig
from apelr_model.policy import temperature_rule
from apelr_model.rules import COUNT_RULE, LARGEST_COUNT, Rule, check_rules

__all__ = ["MixtureOfSoftmaxesConfig", "ModelConfig", "TransformerLMConfig", "V1Config", "V2Config"]

INFINITY = float("inf")


@dataclass(frozen=True, kw_only=True)
class ExecutorSizes:
    """Sizes that every version has. The vocabulary size comes from the tokenizer, not from here."""

    version: str
    """Architecture."""
    token_dim: int = 128
    """E, width of the token embedding."""
    hidden_dim: int = 256
    """D, width of the executor's hidden state."""
    num_layers: int = 1
    """Layers of the executor."""
    dropout: float = 0.0
    """Dropout probability inside the executor and before the output projection."""
    executor: ExecutorConfig = field(default_factory=GRUConfig)
    """The network that reads the tokens."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        sizes = ("token_dim", "hidden_dim", "num_layers")
        return [
            *[(name, getattr(self, name), ">= 1", getattr(self, name) >= 1) for name in sizes],
            ("dropout", self.dropout, ">= 0 and < 1", 0 <= self.dropout < 1),
            *executor_rules(self.executor, hidden_dim=self.hidden_dim),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())


@dataclass(frozen=True, kw_only=True)
class PlanSizes(ExecutorSizes):
    """What both planners have: a chain of discrete plan states, one for each chunk."""

    num_plan_states: int = 8
    """K, number of discrete plan states."""
    chunk_size: int = 16
    """L, tokens in a chunk: the plan may change only at a chunk boundary."""
    planner_context_scale: float = 1.0
    """Factor on the boundary evidence: how strongly the text read so far steers the next chunk's plan."""
    planner_self_bias: float = 2.0
    """Initial logit added for staying in the same plan state at a boundary (a starting value; it is learned on)."""
    boundary_evidence: bool = True
    """Whether the executor's state contributes evidence at chunk boundaries; false leaves a pure Markov plan."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        scale, bias = self.planner_context_scale, self.planner_self_bias
        return [
            ("num_plan_states", self.num_plan_states, ">= 1", self.num_plan_states >= 1),
            ("chunk_size", self.chunk_size, ">= 1", self.chunk_size >= 1),
            *super().rules(),
            ("planner_context_scale", scale, "a finite number >= 0", 0 <= scale < INFINITY),
            ("planner_self_bias", bias, "a finite number", abs(bias) < INFINITY),
        ]


@dataclass(frozen=True, kw_only=True)
class V1Config(PlanSizes):
    """A `v1_filtered_mixture` model: one output projection, to which the plan adds an embedding and a bias."""

    version: Literal["v1_filtered_mixture"] = "v1_filtered_mixture"
    """Architecture; `v1_filtered_mixture` mixes per-plan token distributions with the filtered belief."""
    fusion_dim: int = 256
    """F, width at which the executor's state and the plan embedding are added."""
    tie_embeddings: bool = False
    """Whether the output projection is the token embedding; it needs fusion_dim to be token_dim."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            *super().rules(),
            ("fusion_dim", self.fusion_dim, ">= 1", self.fusion_dim >= 1),
            (
                "tie_embeddings",
                self.tie_embeddings,
                f"false unless fusion_dim ({self.fusion_dim}) is token_dim ({self.token_dim})",
                not self.tie_embeddings or self.fusion_dim == self.token_dim,
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class V2Config(PlanSizes):
    """A `v2_planner_required` model: every token comes from experts, one a plan state, weighted by the gate."""

    version: Literal["v2_planner_required"] = "v2_planner_required"
    """Architecture; `v2_planner_required` has no output that bypasses the plan."""
    num_experts: int | None = None
    """Expert heads; null or num_plan_states."""
    head: HeadConfig = field(default_factory=DenseHeadConfig)
    """The experts' output layers."""
    future_horizon_chunks: int = 2
    """Chunks that the future-contrastive loss looks ahead; 0 leaves out what it alone needs, K D + D^2 parameters."""
    planner_temperature: float = 1.0
    """Divides the log of the gate's weights, and that of Gumbel commitments; 1 leaves the belief exact."""
    token_filtering: bool = True
    """Whether tokens update the belief inside a chunk; false leaves each chunk's prior in force to its end."""
    lookahead_horizon: int = 1
    """H, chunks ahead whose forecasts are averaged for the gate; without effect where the feedback scale is 0."""
    lookahead_feedback_scale: float = 0.0
    """Share of that forecast in the gate, 0 to 1; 0 leaves the belief exact."""
    async_planner: bool = False
    """Whether a sampler makes forecasts beside the tokens and reports them as events of their own."""
    plan_commitment: Literal["soft", "gumbel_st"] = "soft"
    """What a chunk is trained from: its belief, or a straight-through Gumbel-softmax sample of it."""
    commitment_warmup_steps: int = 0
    """Steps before sampled commitments begin."""
    commitment_ramp_steps: int = 0
    """Steps over which the share of the sample then rises linearly to its maximum."""
    commitment_max_hard_fraction: float = 1.0
    """Largest share of the sample in a chunk's starting state; the belief keeps the rest."""
    plan_temperature_start: float | None = None
    """Planner temperature at step 0, from which it moves linearly; null for planner_temperature throughout."""
    plan_temperature_end: float | None = None
    """Planner temperature at max_steps; given together with plan_temperature_start."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        horizon = self.lookahead_horizon
        waits = ("commitment_warmup_steps", "commitment_ramp_steps")
        shares = ("lookahead_feedback_scale", "commitment_max_hard_fraction")
        start, end = self.plan_temperature_start, self.plan_temperature_end
        return [
            *super().rules(),
            (
                "num_experts",
                self.num_experts,
                f"null or num_plan_states ({self.num_plan_states})",
                self.num_experts in (None, self.num_plan_states),
            ),
            ("lookahead_horizon", horizon, COUNT_RULE, 1 <= horizon <= LARGEST_COUNT),
            ("future_horizon_chunks", self.future_horizon_chunks, ">= 0", self.future_horizon_chunks >= 0),
            *[(name, getattr(self, name), ">= 0", getattr(self, name) >= 0) for name in waits],
            *[(name, getattr(self, name), "between 0 and 1", 0 <= getattr(self, name) <= 1) for name in shares],
            temperature_rule("planner_temperature", self.planner_temperature),
            *[temperature_rule(name, getattr(self, name)) for name in ANNEALED if getattr(self, name) is not None],
            (
                "plan_temperature_end",
                end,
                "given together with plan_temperature_start, or neither",
                (start is None) == (end is None),
            ),
        ]

    def temperature_at(self, step: int, max_steps: int) -> float:
        """The planner temperature after `step` of `max_steps` optimizer steps."""
        start, end = self.plan_temperature_start, self.plan_temperature_end
        if start is None or end is None:
            return self.planner_temperature
        return start + (end - start) * min(1.0, step / max_steps)

    def hard_fraction_at(self, step: int) -> float:
        """The share of the sampled commitment at optimizer step `step` (0 is the first)."""
        if self.plan_commitment == "soft" or step < self.commitment_warmup_steps:
            return 0.0
        ramped = step - self.commitment_warmup_steps + 1
        return self.commitment_max_hard_fraction * min(1.0, ramped / max(1, self.commitment_ramp_steps))


ANNEALED = ("plan_temperature_start", "plan_temperature_end")


@dataclass(frozen=True, kw_only=True)
class TransformerLMConfig(ExecutorSizes):
    """The control without a plan: the same executor and one softmax head."""

    version: Literal["transformer_lm"] = "transformer_lm"
    """Architecture; `transformer_lm` is an ordinary language model on the configured executor."""
    tie_embeddings: bool = False
    """Whether the output projection is the token embedding; it needs hidden_dim to be token_dim."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            *super().rules(),
            (
                "tie_embeddings",
                self.tie_embeddings,
                f"false unless hidden_dim ({self.hidden_dim}) is token_dim ({self.token_dim})",
                not self.tie_embeddings or self.hidden_dim == self.token_dim,
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class MixtureOfSoftmaxesConfig(ExecutorSizes):
    """The control without persistence: V2's heads, weighted by a gate that is computed from each hidden state."""

    version: Literal["mixture_of_softmaxes"] = "mixture_of_softmaxes"
    """Architecture; `mixture_of_softmaxes` has K heads and a gate without memory (Yang et al., 2018)."""
    num_plan_states: int = 8
    """K, number of heads."""
    head: HeadConfig = field(default_factory=DenseHeadConfig)
    """The heads' output layers."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            ("num_plan_states", self.num_plan_states, ">= 1", self.num_plan_states >= 1),
            *super().rules(),
        ]


ModelConfig = V2Config | V1Config | TransformerLMConfig | MixtureOfSoftmaxesConfig
"""Any model version's configuration; the versions are told apart by type, and by `version` in a file."""
