"""What kind of machine this is, as far as its speed depends on it."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe_machine"]

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
"""Flags of a CPU that products of matrices depend on."""


def describe_machine(device: torch.device) -> dict[str, Any]:
    """The machine's class: cores, memory in GiB, processor, flags that matter, versions, threads, device.

    `processor`, `flags` and `memory_gib` are None where the system does not say (they are read from /proc).
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    flags = _proc("cpuinfo", "flags") or _proc("cpuinfo", "Features")
    memory = _proc("meminfo", "MemTotal")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _proc("cpuinfo", "model name"),
        "cores": len(cores),
        "memory_gib": None if memory is None else round(int(memory.split()[0]) / 2**20, 1),
        "flags": None if flags is None else [flag for flag in FLAGS if flag in flags.split()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _proc(file: str, key: str) -> str | None:
    """The first value of `key` in a file of /proc; None without such a file or key."""
    path = Path("/proc") / file
    if not path.is_file():
        return None
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)
