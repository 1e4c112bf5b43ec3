"""How exactly matrices are multiplied in training, and what of it a device can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from apelr_model.training_config import OptimConfig

__all__ = ["check_arithmetic", "compiler_fails", "matrix_products"]

CPU_FEATURES = {"high": ("amx_fp16",), "medium": ("amx_bf16", "avx512_bf16", "bf16")}
"""Of which a CPU needs one for float32 products of that precision; without one it multiplies as ever."""


def check_arithmetic(optim: OptimConfig, device: torch.device) -> None:
    """Raise ValueError, in one line, where the device cannot do what is asked of it: nothing is ignored."""
    kind = device.type
    if optim.precision == "fp16" and kind != "cuda":
        raise ValueError(
            f"precision fp16 needs a CUDA device, got {kind}: "
            "fp16 arithmetic is slow and loses gradients there; use bf16 or fp32"
        )
    if optim.allow_tf32 and kind != "cuda":
        raise ValueError(f"allow_tf32 true needs a CUDA device, got {kind}: TF32 is CUDA's; leave it null")
    if optim.compile and (reason := compiler_fails(kind)):
        raise ValueError(f"compile true: torch.compile cannot make code for {kind} here: {reason}; leave it false")
    precision = optim.product_precision
    if kind == "cuda" or precision == "highest":
        return
    if kind != "cpu" or not _cpu_has_one_of(CPU_FEATURES[precision]):
        raise ValueError(
            f"matmul_precision {precision} changes nothing on this {kind}: it has no "
            f"{' or '.join(CPU_FEATURES[precision])}; leave it null"
        )


@contextmanager
def matrix_products(optim: OptimConfig) -> Iterator[None]:
    """Within the block this process multiplies float32 matrices as `optim` says; afterwards as before.

    Recurrences and products on CUDA round their inputs to TF32 only where `matmul_precision` is not highest, although
    PyTorch by itself lets cuDNN's recurrences do so.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    precision = optim.product_precision
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@cache
def compiler_fails(kind: str) -> str:
    """Why `torch.compile` makes no code for this kind of device, found by trying; empty where it does."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=kind))
    except RuntimeError as error:  # what every failure of torch.compile is
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return ""


def _cpu_has_one_of(features: tuple[str, ...]) -> bool:
    return any(torch.cpu.get_capabilities().get(feature) for feature in features)
