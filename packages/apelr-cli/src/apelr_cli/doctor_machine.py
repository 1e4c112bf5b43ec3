"""What computes: torch, the processor, devices, number types, compilers, and what several processes talk by."""

import importlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

from apelr_cli.doctor_findings import Finding

__all__ = ["compiler_findings", "torch_findings"]

COMPILERS = ("g++", "clang++", "c++", "cl")
HARDWARE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
INSTALL_TORCH = "install torch again, from the index that pytorch.org names for this machine"


def torch_findings() -> Iterator[Finding]:
    """Everything that torch tells; one problem where it cannot be imported."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        told = " ".join(str(error).split())
        yield Finding("torch", "torch", f"cannot be imported: {told}", "problem", INSTALL_TORCH)
        return
    cuda, hip = torch.version.cuda, torch.version.hip
    build = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "CPU alone"
    yield Finding("torch", "torch", f"{torch.__version__}, built for {build}")
    yield from _processor_findings(torch)
    yield from _device_findings(torch)
    yield from _distributed_findings(torch)


def _processor_findings(torch: ModuleType) -> Iterator[Finding]:
    from apelr_cli.machine import describe_machine

    about = describe_machine(torch.device("cpu"))
    memory = "memory unknown" if about["memory_gib"] is None else f"{about['memory_gib']} GiB of memory"
    yield Finding(
        "Processor", "processor", f"{about['processor'] or about['system']}, {about['cores']} cores, {memory}"
    )
    yield Finding("Processor", "threads of torch", str(about["threads"]))
    flags = about["flags"]
    told = "unknown" if flags is None else ", ".join(flags) or "none of those that matter"
    yield Finding("Processor", "instruction sets", f"{told}; torch uses {torch.backends.cpu.get_cpu_capability()}")
    native = "unknown" if flags is None else "by hardware" if HARDWARE_BF16 & set(flags) else "emulated, and slow"
    yield Finding("Processor", "number types", f"fp32; bf16 {native}; fp16 on CUDA alone")


def _device_findings(torch: ModuleType) -> Iterator[Finding]:
    from apelr_cli.device import available_devices

    found = available_devices()
    yield Finding("Devices", "devices", f"{', '.join(found)}; auto takes {found[0]}")
    if "cuda" not in found and torch.version.cuda:
        fix = "for a GPU check its driver with nvidia-smi; for the CPU alone nothing is to be done"
        yield Finding("Devices", "cuda", "torch is built for CUDA and finds no device", "warning", fix)
    for index in range(torch.cuda.device_count() if "cuda" in found else 0):
        try:
            about = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            told = " ".join(str(error).split())
            yield Finding("Devices", f"cuda:{index}", f"does not answer: {told}", "warning", "use --device cpu")
            continue
        newer = about.major >= 8
        types = "fp32, tf32, fp16, bf16" if newer else "fp32, fp16"
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding("Devices", f"cuda:{index}", f"{about.name}, {memory}, {types}")


def _distributed_findings(torch: ModuleType) -> Iterator[Finding]:
    dist = torch.distributed
    if not dist.is_available():
        yield Finding("Several processes", "torch.distributed", "not in this build of torch")
        return
    there = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available(), "mpi": dist.is_mpi_available()}
    names = ", ".join(name for name, is_there in there.items() if is_there) or "none"
    yield Finding("Several processes", "backends", names)


def compiler_findings() -> Iterator[Finding]:
    """The C++ compiler and Triton, which `train.compile` needs."""
    asked = [os.environ["CXX"]] if os.environ.get("CXX") else []
    path = next((found for name in (*asked, *COMPILERS) if (found := shutil.which(name))), None)
    if path is None:
        yield Finding("train.compile", "C++ compiler", "none found; train.compile: true needs one")
    else:
        yield Finding("train.compile", "C++ compiler", f"{path}{_first_line_of_version(path)}")
    yield Finding("train.compile", "Triton (for CUDA)", "installed" if find_spec("triton") else "not installed")


def _first_line_of_version(path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ", which does not run"
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return f": {lines[0]}" if lines else ""
