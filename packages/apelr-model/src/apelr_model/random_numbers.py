"""The states of torch's random number generators, of every process that trains a model: kept and put back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from apelr_model.world import World

__all__ = ["random_states", "restore_random_states"]


def random_states(device: torch.device, world: World) -> dict[str, Any]:
    """The first process's, `cpu` and `cuda`, and those of the `others`, by rank, where there are any."""
    own = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    by_rank = list(zip(*(world.gathered(state) for state in own), strict=True))
    first, *others = [{"cpu": cpu, "cuda": cuda} for cpu, *cuda in by_rank]
    return {**first, "others": others} if others else first


def restore_random_states(stored: Mapping[str, Any], device: torch.device, world: World) -> None:
    """Go on with this process's stream; one that has none begins a stream that follows from the first process's."""
    by_rank = [stored, *stored.get("others", [])]
    own = by_rank[world.rank] if world.rank < len(by_rank) else stored
    torch.set_rng_state(own["cpu"].cpu())
    cuda: list[Tensor] = own["cuda"]
    if cuda and device.type == "cuda":
        torch.cuda.set_rng_state(cuda[0].cpu(), device)
    if world.rank >= len(by_rank):
        world.begin_own_random_numbers()
