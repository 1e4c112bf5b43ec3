"""The `train.distributed` section: how several processes train one model."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DistributedConfig"]


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How the processes that `torchrun` starts share the work; docs/scaling.md tells more."""

    strategy: Literal["none", "ddp", "fsdp"] = "none"
    """none: one process; ddp: each has the whole model, reads its share of a step's rows and sums gradients; fsdp: and
    each has a share of all parameters, gradients and moments."""
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """What gradients are sent by; auto for nccl on CUDA and gloo on a CPU."""
