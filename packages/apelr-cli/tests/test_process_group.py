"""Devices, backends and batches of several processes: what does not fit is refused."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import torch

from apelr_cli.distributed_config import DistributedConfig
from apelr_cli.launch import Launch, LaunchError
from apelr_cli.process_group import check_division, check_same, device_of_process, joined
from apelr_cli.run_config import RunConfig
from apelr_model import World

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
TWO = Launch(1, 2, 1, True)


def test_each_process_of_a_machine_has_a_cuda_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device_of_process(CUDA, TWO) == torch.device("cuda", 1)
    assert chosen == [1]
    assert device_of_process(CPU, TWO) == CPU
    assert device_of_process(CUDA, Launch()) == CUDA
    with pytest.raises(LaunchError, match="process 2 of this machine has no CUDA device: there are 2"):
        device_of_process(CUDA, Launch(2, 4, 2, True))
    with pytest.raises(LaunchError, match="cuda or cpu, got mps"):
        device_of_process(torch.device("mps"), TWO)


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        ("auto", CPU, "gloo"),
        ("gloo", CPU, "gloo"),
        ("gloo", CUDA, "gloo"),
        ("auto", CUDA, "cpu:gloo,cuda:nccl"),
        ("nccl", CUDA, "cpu:gloo,cuda:nccl"),
    ],
)
def test_gradients_go_by_nccl_on_cuda_and_counts_by_gloo(
    monkeypatch: pytest.MonkeyPatch, backend: Any, device: torch.device, expected: str
) -> None:
    asked: list[str] = []

    def init(backend: str, **rest: object) -> None:
        asked.append(backend)

    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", init)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    store = torch.distributed.HashStore()
    monkeypatch.setattr("apelr_cli.process_group.rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    monkeypatch.setattr("apelr_cli.process_group._agreed_name", lambda *_: "name")
    with joined(TWO, DistributedConfig(strategy="ddp", backend=backend), device) as world:
        assert (world.rank, world.size) == (1, 2)
    assert asked == [expected]


def test_nccl_without_cuda_is_refused() -> None:
    with (
        pytest.raises(LaunchError, match="backend nccl needs CUDA"),
        joined(TWO, DistributedConfig(backend="nccl"), CPU),
    ):
        pass


def test_one_process_joins_no_group() -> None:
    with joined(Launch(), DistributedConfig(), CPU) as world:
        assert world == World()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_waits_for_others_in_vain_says_so(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """The others may have failed before they came, under launchers that have no restarts left."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr("apelr_cli.process_group.rendezvous", lambda *_, **__: iter([(store, rank, 2)]))
    monkeypatch.setattr("apelr_cli.process_group.LONGEST_JOIN", timedelta(seconds=-1))
    with (
        pytest.raises(LaunchError, match=f"process {rank}: not all 2 processes have come within"),
        joined(Launch(rank, 2, rank, True), DistributedConfig(strategy="ddp"), CPU),
    ):
        pass


def config(**train: Any) -> RunConfig:
    default = RunConfig()
    return replace(default, train=replace(default.train, **train))


def test_rows_must_divide_between_processes_and_micro_batches() -> None:
    check_division(config(batch_size=8, grad_accum_steps=2), 4)
    check_division(config(batch_size=7, grad_accum_steps=2), 1)
    with pytest.raises(LaunchError, match=r"multiple of processes x train.grad_accum_steps \(2 x 2 = 4\), got 6"):
        check_division(config(batch_size=6, grad_accum_steps=2), 2)
    check_division(config(batch_size="auto"), 1)
    with pytest.raises(LaunchError, match=r"train.batch_size auto measures one process"):
        check_division(config(batch_size="auto"), 2)


def test_what_is_not_the_same_everywhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_same(World(), "text", "abc")
    monkeypatch.setattr(World, "gathered", lambda self, values: [values, values + 1])
    with pytest.raises(LaunchError, match="process 1: the processes do not have the same text"):
        check_same(World(1, 2), "text", "abc")
