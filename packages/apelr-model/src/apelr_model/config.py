"""The model's configuration objects: frozen, and the one home of every default."""

from dataclasses import dataclass
from typing import Literal

from apelr_model.rules import Rule, check_rules

__all__ = ["ModelConfig", "OptimConfig", "Rule", "V1Config", "V1LossWeights", "check_rules"]


@dataclass(frozen=True, kw_only=True)
class V1Config:
    """Sizes of a `v1_filtered_mixture` model. The vocabulary size comes from the tokenizer, not from here."""

    version: Literal["v1_filtered_mixture"] = "v1_filtered_mixture"
    """Architecture; `v1_filtered_mixture` mixes per-plan token distributions with the filtered belief."""
    num_plan_states: int = 8
    """K, number of discrete plan states."""
    chunk_size: int = 16
    """L, tokens in a chunk: the plan may change only at a chunk boundary."""
    token_dim: int = 128
    """E, width of the token embedding."""
    hidden_dim: int = 256
    """D, width of the executor's hidden state."""
    fusion_dim: int = 256
    """F, width at which the executor's state and the plan embedding are added."""
    num_layers: int = 1
    """Layers of the executor."""
    dropout: float = 0.0
    """Dropout probability between executor layers and before the output projection."""
    planner_context_scale: float = 1.0
    """Factor on the boundary evidence: how strongly the text read so far steers the next chunk's plan."""
    planner_self_bias: float = 2.0
    """Initial logit added for staying in the same plan state at a boundary (a starting value; it is learned on)."""
    boundary_evidence: bool = True
    """Whether the executor's state contributes evidence at chunk boundaries; false leaves a pure Markov plan."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        sizes = ("chunk_size", "token_dim", "hidden_dim", "fusion_dim", "num_layers")
        return [
            ("num_plan_states", self.num_plan_states, ">= 1", self.num_plan_states >= 1),
            *[(name, getattr(self, name), ">= 1", getattr(self, name) >= 1) for name in sizes],
            ("dropout", self.dropout, ">= 0 and < 1", 0 <= self.dropout < 1),
            (
                "planner_context_scale",
                self.planner_context_scale,
                "a finite number >= 0",
                0 <= self.planner_context_scale < float("inf"),
            ),
            (
                "planner_self_bias",
                self.planner_self_bias,
                "a finite number",
                abs(self.planner_self_bias) < float("inf"),
            ),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())


ModelConfig = V1Config
"""Any model version's configuration; the versions are told apart by type."""


@dataclass(frozen=True, kw_only=True)
class V1LossWeights:
    """Weights of the loss terms that V1 adds to the NLL (formulas: docs/losses.md). Zero switches a term off."""

    entropy_reg_weight: float = 0.0
    """Weight of the belief's entropy after each token; a positive weight sharpens beliefs."""
    usage_balance_weight: float = 0.0
    """Weight of KL(mean belief || uniform); a positive weight asks for all plan states to be used."""
    chunk_bow_weight: float = 0.0
    """Weight of the chunk's bag-of-words cross-entropy under the plan known at the chunk's start."""
    chunk_bow_warmup_steps: int = 0
    """Steps over which the bag-of-words weight ramps linearly from 0 to its value."""
    plan_mi_weight: float = 0.0
    """Weight with which the mutual information of plan and next token is maximised."""
    chunk_post_kl_weight: float = 0.0
    """Weight of the symmetric KL between a recognizer that reads the whole chunk and the filtered belief."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        weights = ("entropy_reg_weight", "plan_mi_weight", "usage_balance_weight", "chunk_bow_weight")
        return [
            *[
                (name, getattr(self, name), "a finite number", abs(getattr(self, name)) < float("inf"))
                for name in (*weights, "chunk_post_kl_weight")
            ],
            ("chunk_bow_warmup_steps", self.chunk_bow_warmup_steps, ">= 0", self.chunk_bow_warmup_steps >= 0),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())

    def chunk_bow_at(self, step: int) -> float:
        """The bag-of-words weight in force at optimizer step `step` (0 is the first)."""
        if step >= self.chunk_bow_warmup_steps:
            return self.chunk_bow_weight
        return self.chunk_bow_weight * step / self.chunk_bow_warmup_steps


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How parameters are updated: AdamW with a learning rate that is a pure function of the step."""

    lr: float = 1e-3
    """Peak learning rate."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Shape of the decay from `lr` after warm-up to `lr * min_lr_ratio` at `max_steps`."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises linearly from 0 to `lr`."""
    min_lr_ratio: float = 0.1
    """Learning rate at `max_steps`, where the decay ends, as a share of `lr` (linear and cosine)."""
    weight_decay: float = 0.01
    """AdamW weight decay, on matrices only: biases, embeddings of the plan and the planner's logits have none."""
    grad_clip: float = 1.0
    """Largest gradient norm; a longer gradient is scaled down to it. 0 switches clipping off."""
    max_steps: int = 1000
    """Optimizer steps of the whole run."""
    grad_accum_steps: int = 1
    """Micro-batches that an optimizer step is split into, to save memory."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Arithmetic of the forward pass: fp32; bf16 by autocast; fp16 by autocast with loss scaling, on CUDA only."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            ("lr", self.lr, "> 0 and finite", 0 < self.lr < float("inf")),
            ("warmup_steps", self.warmup_steps, ">= 0", self.warmup_steps >= 0),
            ("min_lr_ratio", self.min_lr_ratio, "between 0 and 1", 0 <= self.min_lr_ratio <= 1),
            ("weight_decay", self.weight_decay, ">= 0 and finite", 0 <= self.weight_decay < float("inf")),
            ("grad_clip", self.grad_clip, ">= 0 and finite", 0 <= self.grad_clip < float("inf")),
            ("max_steps", self.max_steps, ">= 1", self.max_steps >= 1),
            ("grad_accum_steps", self.grad_accum_steps, ">= 1", self.grad_accum_steps >= 1),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())
