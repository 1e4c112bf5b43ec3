"""How a model is trained: the optimizer's configuration and the weights of each version's loss terms."""

from dataclasses import dataclass
from typing import Literal

import torch

from apelr_model.rules import Rule, check_rules

__all__ = ["LossWeights", "NoLossWeights", "OptimConfig", "V1LossWeights", "V2LossWeights"]

INFINITY = float("inf")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class V1LossWeights:
    """Weights of the loss terms that V1 adds to the NLL (formulas: docs/math.md). Zero switches a term off."""

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
                (name, getattr(self, name), "a finite number", abs(getattr(self, name)) < INFINITY)
                for name in (*weights, "chunk_post_kl_weight")
            ],
            ("chunk_bow_warmup_steps", self.chunk_bow_warmup_steps, ">= 0", self.chunk_bow_warmup_steps >= 0),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())

    def signed(self, step: int) -> dict[str, float]:
        """Each term's factor in the loss at optimizer step `step`, by the term's name; maximised terms are negative."""
        return {
            "belief_entropy": self.entropy_reg_weight,
            "usage_kl": self.usage_balance_weight,
            "chunk_bow": self.chunk_bow_at(step),
            "plan_mi": -self.plan_mi_weight,
            "chunk_post_kl": self.chunk_post_kl_weight,
        }

    def chunk_bow_at(self, step: int) -> float:
        """The bag-of-words weight in force at optimizer step `step` (0 is the first)."""
        if step >= self.chunk_bow_warmup_steps:
            return self.chunk_bow_weight
        return self.chunk_bow_weight * step / self.chunk_bow_warmup_steps


@dataclass(frozen=True, kw_only=True)
class V2LossWeights:
    """Weights of the loss terms that V2 adds to the NLL (formulas: docs/math.md). Zero switches a term off."""

    usage_balance: float = 0.0
    """Weight of KL(mean plan state at chunk starts || uniform); a positive weight asks for all states to be used."""
    boundary_entropy: float = 0.0
    """Weight of the entropy of beliefs at chunk starts; a positive weight sharpens them."""
    future_contrastive: float = 0.0
    """Weight of the InfoNCE loss with which a chunk's plan tells its own future chunks from others'."""
    plan_js_div: float = 0.0
    """Weight with which the Jensen-Shannon divergence between the experts' distributions is maximised."""
    rep_unlikelihood: float = 0.0
    """Weight of the unlikelihood of repeating recent tokens; a positive weight makes repetition rarer."""
    rep_window: int = 16
    """Tokens back that count as recent."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        weights = ("usage_balance", "boundary_entropy", "future_contrastive", "plan_js_div", "rep_unlikelihood")
        return [
            *[(name, getattr(self, name), "a finite number", abs(getattr(self, name)) < INFINITY) for name in weights],
            ("rep_window", self.rep_window, ">= 1", self.rep_window >= 1),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())

    def signed(self, step: int) -> dict[str, float]:
        """Each term's factor in the loss, the same at every step; maximised terms are negative."""
        return {
            "usage_balance": self.usage_balance,
            "boundary_entropy": self.boundary_entropy,
            "future_contrastive": self.future_contrastive,
            "plan_js_div": -self.plan_js_div,
            "rep_unlikelihood": self.rep_unlikelihood,
        }


@dataclass(frozen=True, kw_only=True)
class NoLossWeights:
    """The controls have no term but the NLL."""

    def signed(self, step: int) -> dict[str, float]:
        """No terms."""
        return {}


LossWeights = V1LossWeights | V2LossWeights | NoLossWeights
"""The weights that belong to a model version."""


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
    planner_lr_scale: float = 1.0
    """Factor on the learning rate of the planner, and of the plan states' biases in a factorized head."""
    split_interval: int = 0
    """Steps between two looks at the plan states, in the first half of the steps: one that is worth next to nothing
    becomes a copy of the one that predicts its text worst. 0, or more than half of max_steps, for none."""
    weight_decay: float = 0.01
    """AdamW weight decay, on matrices only: biases, embeddings of the plan and the planner's logits have none."""
    grad_clip: float = 1.0
    """Largest gradient norm; a longer gradient is scaled down to it. 0 switches clipping off."""
    skip_non_finite: int = 0
    """Steps in a row that may be skipped because a loss term or the gradient is NaN or infinite; one more, and the run
    stops. 0 stops at the first."""
    max_steps: int = 1000
    """Optimizer steps of the whole run."""
    grad_accum_steps: int = 1
    """Micro-batches that an optimizer step is split into, to save memory."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Arithmetic of the forward pass: fp32; bf16 by autocast; fp16 by autocast with loss scaling, on CUDA only."""
    matmul_precision: Literal["highest", "high", "medium"] | None = None
    """Products of float32 matrices: highest; high: TF32 (CUDA); medium: bf16 on CPUs that have it, and TF32 on CUDA.
    null for high where allow_tf32 is true, else highest."""
    allow_tf32: bool | None = None
    """Whether CUDA may round the inputs of float32 products to TF32; null for what matmul_precision says."""
    fused_adamw: bool = True
    """Whether AdamW updates each parameter in one pass over memory; the same numbers but for rounding, and faster."""
    compile: bool = False
    """Whether training runs the layers of a transformer executor through torch.compile; it needs a C++ compiler, on
    CUDA Triton, and a minute or more at the first step."""

    @property
    def dtype(self) -> torch.dtype:
        """What `precision` names."""
        return DTYPES[self.precision]

    @property
    def product_precision(self) -> Literal["highest", "high", "medium"]:
        """What `matmul_precision` and `allow_tf32` come to."""
        return self.matmul_precision or ("high" if self.allow_tf32 else "highest")

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            ("lr", self.lr, "> 0 and finite", 0 < self.lr < INFINITY),
            ("planner_lr_scale", self.planner_lr_scale, ">= 0 and finite", 0 <= self.planner_lr_scale < INFINITY),
            ("split_interval", self.split_interval, ">= 0", self.split_interval >= 0),
            ("warmup_steps", self.warmup_steps, ">= 0", self.warmup_steps >= 0),
            ("min_lr_ratio", self.min_lr_ratio, "between 0 and 1", 0 <= self.min_lr_ratio <= 1),
            ("weight_decay", self.weight_decay, ">= 0 and finite", 0 <= self.weight_decay < INFINITY),
            ("grad_clip", self.grad_clip, ">= 0 and finite", 0 <= self.grad_clip < INFINITY),
            ("skip_non_finite", self.skip_non_finite, ">= 0", self.skip_non_finite >= 0),
            ("max_steps", self.max_steps, ">= 1", self.max_steps >= 1),
            ("grad_accum_steps", self.grad_accum_steps, ">= 1", self.grad_accum_steps >= 1),
            (
                "matmul_precision",
                self.matmul_precision,
                "null or high or medium when allow_tf32 is true, null or highest when it is false",
                self.allow_tf32 is None or self.allow_tf32 == (self.product_precision != "highest"),
            ),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())
