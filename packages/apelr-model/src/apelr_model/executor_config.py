"""Which executor reads the tokens, and what only that kind has. Sizes that every kind shares are the model's."""

from dataclasses import dataclass
from typing import Literal

from apelr_model.rules import Rule, check_rules

__all__ = ["ExecutorConfig", "GRUConfig", "TransformerConfig", "executor_rules"]


@dataclass(frozen=True, kw_only=True)
class GRUConfig:
    """A gated recurrent unit: constant memory, unbounded context."""

    type: Literal["gru"] = "gru"
    """Kind of executor."""

    def rules(self) -> list[Rule]:
        """No rules: it has the sizes of the model alone."""
        return []


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A pre-norm decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    type: Literal["transformer"] = "transformer"
    """Kind of executor."""
    num_heads: int = 4
    """Attention heads; `hidden_dim / num_heads`, the width of a head, must be a whole even number."""
    num_kv_heads: int | None = None
    """Heads of keys and values, each shared by `num_heads / num_kv_heads` query heads; null: `num_heads`."""
    mlp_dim: int | None = None
    """Inner width of the SwiGLU; null: 8/3 of `hidden_dim`, rounded up to a multiple of 64."""
    window: int | None = None
    """Tokens that a layer attends to, the current one included; null: all. n layers reach n * (window - 1) back."""
    rope_base: float = 10000.0
    """Base of the rotary frequencies; a larger one tells far positions apart better."""
    activation_checkpointing: bool = False
    """Whether layers are recomputed in the backward pass: less memory, about a third more time."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        heads = self.num_heads >= 1
        shared = self.num_kv_heads is None or (heads and self.num_kv_heads >= 1)
        divides = self.num_kv_heads is None or not shared or self.num_heads % self.num_kv_heads == 0
        return [
            ("num_heads", self.num_heads, ">= 1", heads),
            (
                "num_kv_heads",
                self.num_kv_heads,
                f"null or a divisor of num_heads ({self.num_heads})",
                not heads or (shared and divides),
            ),
            ("mlp_dim", self.mlp_dim, "null or >= 1", self.mlp_dim is None or self.mlp_dim >= 1),
            ("window", self.window, "null or >= 1", self.window is None or self.window >= 1),
            ("rope_base", self.rope_base, "> 1 and finite", 1 < self.rope_base < float("inf")),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())

    def mlp_width(self, hidden_dim: int) -> int:
        """The inner width of the SwiGLU in a model of that hidden width."""
        return self.mlp_dim if self.mlp_dim is not None else -(-8 * hidden_dim // (3 * 64)) * 64


ExecutorConfig = GRUConfig | TransformerConfig
"""Any executor's configuration; `type` tells them apart."""


def executor_rules(config: ExecutorConfig, *, hidden_dim: int) -> list[Rule]:
    """The rules between an executor's fields and the model's `hidden_dim`, with whether they hold."""
    if isinstance(config, GRUConfig):
        return []
    heads = config.num_heads
    return [
        (
            "executor.num_heads",
            heads,
            f"a number that divides hidden_dim ({hidden_dim}) into heads of even width",
            heads < 1 or hidden_dim % (2 * heads) == 0,  # that there is one is the executor's own rule
        )
    ]
