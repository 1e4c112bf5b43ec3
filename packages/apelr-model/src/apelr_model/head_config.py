"""Which output head V2 and the mixture of softmaxes have, and what only that kind has."""

from dataclasses import dataclass
from typing import Literal

from apelr_model.rules import Rule, check_rules

__all__ = ["DenseHeadConfig", "FactorizedHeadConfig", "HeadConfig"]


@dataclass(frozen=True, kw_only=True)
class DenseHeadConfig:
    """An output layer of its own for every plan state: K times the size and the work of one."""

    type: Literal["dense"] = "dense"
    """Kind of head."""
    init_spread: float = 0.1
    """How far apart fresh experts are: 1 draws each by itself; below, they share a layer but for this share of each."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [("init_spread", self.init_spread, "between 0 and 1", 0 <= self.init_spread <= 1)]

    def __post_init__(self) -> None:
        check_rules(self.rules())


@dataclass(frozen=True, kw_only=True)
class FactorizedHeadConfig:
    """One output layer that all plan states share, and what each of them adds to its logits."""

    type: Literal["factorized"] = "factorized"
    """Kind of head."""
    rank: int = 0
    """Rank of each state's own map from hidden state to logits; 0 leaves it a bias for every token, nearly free."""
    init_std: float = 0.1
    """Standard deviation of the states' fresh biases, nats: what tells the states apart at the start."""

    def rules(self) -> list[Rule]:
        """Every rule on the fields, with whether it holds."""
        return [
            ("rank", self.rank, ">= 0", self.rank >= 0),
            ("init_std", self.init_std, "between 0 and 10", 0 <= self.init_std <= 10),
        ]

    def __post_init__(self) -> None:
        check_rules(self.rules())


HeadConfig = DenseHeadConfig | FactorizedHeadConfig
"""Any head's configuration; `type` tells them apart."""
