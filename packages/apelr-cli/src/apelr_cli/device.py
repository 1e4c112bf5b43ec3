"""Choosing the device that computes."""

import torch

__all__ = ["available_devices", "resolve_device"]


def available_devices() -> list[str]:
    """The kinds of device that torch can use here, fastest first; cpu is always the last."""
    mps = getattr(torch.backends, "mps", None)
    found = {"cuda": torch.cuda.is_available(), "mps": mps is not None and mps.is_available(), "cpu": True}
    return [name for name, is_there in found.items() if is_there]


def resolve_device(name: str) -> torch.device:
    """`auto` is the first of cuda, mps and cpu that is there; any other name must be there.

    From here on numbers too small for their type's full precision (below 1e-38 in float32) count as zero on the CPU:
    the gradients of plan states that nothing uses are such numbers, and a matrix product with them takes a hundred
    times as long. It must be said before torch starts its threads, which take it over.

    Raises ValueError naming the devices there are: a missing device is never replaced in silence.
    """
    torch.set_flush_denormal(True)
    found = available_devices()
    if name == "auto":
        return torch.device(found[0])
    if name not in found:
        raise ValueError(f"device must be auto or one that torch finds here ({', '.join(found)}), got {name}")
    return torch.device(name)
