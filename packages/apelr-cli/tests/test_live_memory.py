"""Counting what lives in memory, against sizes that are known; and how much memory is said to be left."""

import os
from pathlib import Path

import pytest
import torch

from apelr_cli import live_memory
from apelr_cli.live_memory import LiveMemory, available_memory

CPU = torch.device("cpu")
MB = 2**20


def block(megabytes: int) -> torch.Tensor:
    return torch.empty(megabytes * MB, dtype=torch.uint8)


def test_the_peak_is_what_lives_at_once() -> None:
    with LiveMemory() as live:
        first = block(3)
        block(5)  # gone at once
        second = block(1)
        view = second[10:]
        del first
        block(2)
    assert live.peak == 8 * MB
    assert live.now == 1 * MB
    del second, view
    assert live.now == 0


def test_known_tensors_are_not_counted() -> None:
    parameter = torch.zeros(MB)
    with LiveMemory([parameter]) as live:
        parameter.add_(1)
        parameter.view(2, -1)
    assert (live.peak, live.now) == (0, 0)


def test_activations_and_gradients_of_a_step_are_counted() -> None:
    """Of exp(w x): the product, its exponential, which is kept, and then their gradients; the gradient of w stays."""
    weight = torch.randn(512, 512, requires_grad=True)
    x = torch.randn(512, 512)
    with LiveMemory([weight, x]) as live:
        (weight @ x).exp().sum().backward()
    assert weight.grad is not None
    assert live.now == 4 * 512 * 512
    assert 2 * 4 * 512 * 512 < live.peak <= 3 * 4 * 512 * 512


@pytest.mark.skipif(not live_memory.MEMORY_INFO.exists(), reason="needs Linux")
def test_what_is_available_is_no_more_than_there_is() -> None:
    found = available_memory(CPU)
    assert found is not None
    assert 0 < found < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, limit, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    info.write_text("MemTotal:       2000 kB\nMemAvailable:   1000 kB\nHugePages_Total:       0\n", encoding="ascii")
    monkeypatch.setattr(live_memory, "MEMORY_INFO", info)
    monkeypatch.setattr(live_memory, "CGROUPS", ((str(limit), str(used)),))
    assert available_memory(CPU) == 1000 * 1024
    used.write_text("300\n", encoding="ascii")
    limit.write_text("max\n", encoding="ascii")
    assert available_memory(CPU) == 1000 * 1024
    limit.write_text("5000\n", encoding="ascii")
    assert available_memory(CPU) == 4700


def test_a_device_that_does_not_say() -> None:
    assert available_memory(torch.device("mps")) is None
