"""peak memory of training, each model in a process of its own"""

import ctypes
import gc
import multiprocessing
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import subjects
import torch
from measured import Row, Run, at_most, single

from apelr_cli.benchmark_timing import Work
from apelr_cli.benchmark_works import random_batch, training_steps
from apelr_model import OptimConfig, V2LossWeights, build_model

OWN = {"GRU": ("V1", "V2 dense", "V2 factorized"), "transformer": ("V2 dense", "V2 factorized")}
CONTROLS = ("mixture_of_softmaxes", "transformer_lm")
WIDE_VOCABULARY, WIDE_ROWS, WIDE_TARGETS = 32768, 8, 1024
LARGEST = 8e9


class Peak(NamedTuple):
    """Bytes of a process."""

    whole: int
    """All that it held at most."""
    step: int
    """Of that, what came on top of weights and optimizer during a step."""
    gradients: int
    """Of that, the gradients, which are as large as the weights."""


def rows(run: Run) -> Iterator[Row]:
    """Ratios, and the largest setting as it is."""
    for executor, setting in subjects.SETTINGS.items():
        names = (*OWN[executor], *CONTROLS)
        found = {name: in_process(peak_of, name, executor, setting, run.device.type) for name in names}
        plain = found["transformer_lm"]
        for name in names:
            yield Row(f"{name}, {executor}: a step, weights and optimizer aside", single(found[name].step), "MiB")
        for name in OWN[executor]:
            title = f"{name}, {executor}, beside transformer_lm"
            ratio = found[name].step / plain.step
            yield Row(f"{title}: weights and optimizer aside", single(ratio), "x", at_most(1.15))
            bare = (found[name].step - found[name].gradients) / (plain.step - plain.gradients)
            yield Row(f"{title}: weights, optimizer and gradients aside", single(bare))
    wide = in_process(wide_peak, run.device.type)
    title = f"V2 dense, V {WIDE_VOCABULARY}, K 8, D 512, B {WIDE_ROWS}, T {WIDE_TARGETS}: the whole process"
    yield Row(title, single(wide.whole), "MiB", at_most(LARGEST))


def in_process(function, *arguments) -> Peak:
    """The function's answer from a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def peak_of(name: str, executor: str, setting: tuple, device: str) -> Peak:
    """Of a second step, when the optimizer has its state."""
    sizes, vocabulary, count, targets = setting
    model = subjects.make(name, sizes, vocabulary, torch.device(device))
    step = subjects.steps(model, random_batch(model, count, targets))
    subjects.steps(model, random_batch(model, 1, 16))()  # the libraries' own buffers
    step()
    return measure(step, model, device)


def wide_peak(device: str) -> Peak:
    """Of the first step: its optimizer state is there at its end."""
    torch.manual_seed(0)
    config = subjects.CONFIGS["V2 dense"](subjects.TRANSFORMER)
    model = build_model(config, WIDE_VOCABULARY).to(device)
    step = training_steps(model, OptimConfig(), V2LossWeights(), random_batch(model, WIDE_ROWS, WIDE_TARGETS))
    return measure(step, model, device)


def measure(step: Work, model: torch.nn.Module, device: str) -> Peak:
    """The peak during one step that begins without gradients, and their share."""
    for parameter in model.parameters():
        parameter.grad = None
    gradients = sum(p.numel() * p.element_size() for p in model.parameters())
    if device != "cuda":
        return measured_process(step)._replace(gradients=gradients)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    whole = torch.cuda.max_memory_allocated()
    return Peak(whole, whole - before, gradients)


def measured_process(work: Work) -> Peak:
    """The peak of this process during one call."""
    before = resident_after_trimming()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now what there is
    work()
    whole = status("VmHWM")
    return Peak(whole, whole - before, 0)


def resident_after_trimming() -> int:
    """Bytes that the process holds when freed memory has been handed back."""
    if not sys.platform.startswith("linux"):
        raise SystemExit("memory on a CPU is read from /proc, which Linux alone has")
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return status("VmRSS")


def status(key: str) -> int:
    """A value of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"{key}:\s*(\d+) kB", text)[1])
