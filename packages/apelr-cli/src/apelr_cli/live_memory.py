"""How much memory tensors take while something is computed, and how much there is."""

import os
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveMemory", "available_memory"]

MEMORY_INFO = Path("/proc/meminfo")
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with a container's limit and what it uses, of both versions of Linux's control groups."""


class LiveMemory(TorchDispatchMode):
    """Within a `with` block, counts the bytes of the tensors that operations make, and the most that live at once.

    What a kernel needs for itself is not seen. Slow: every operation is looked at.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        """`known` tensors are not counted when operations give them back."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known = list(known)
        self._seen: dict[int, weakref.ref[Any]] = {}
        for tensor in self._known:
            self._see(tensor, counted=False)

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._see(tensor, counted=True)
        return made

    def _see(self, tensor: Tensor, *, counted: bool) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes() if counted else 0
        if key not in self._seen:
            self._seen[key] = weakref.ref(storage, lambda _: self._gone(key, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size


def available_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take on a device; None where that cannot be found out.

    On a CPU what Linux calls available, or a container's limit where less is left of that; elsewhere all of the
    machine's memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    limits = [left for left in (_left_of_group(*map(Path, files)) for files in CGROUPS) if left is not None]
    if MEMORY_INFO.exists():
        lines = dict(line.split(":") for line in MEMORY_INFO.read_text(encoding="ascii").splitlines())
        return min([int(lines["MemAvailable"].split()[0]) * 1024, *limits])
    try:
        return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *limits])
    except (AttributeError, ValueError, OSError):
        return None


def _left_of_group(limit: Path, used: Path) -> int | None:
    """What a control group leaves; None where there is none, or no limit."""
    try:
        return int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
