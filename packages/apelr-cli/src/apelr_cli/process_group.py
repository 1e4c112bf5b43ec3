"""Joining the processes that train together, and the device that each of them computes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from secrets import token_hex
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from apelr_cli.distributed_config import DistributedConfig
from apelr_cli.launch import Launch, LaunchError, said_once
from apelr_cli.run_config import RunConfig
from apelr_model import World

__all__ = ["check_division", "check_same", "device_of_process", "joined"]

LONGEST_WAIT = timedelta(hours=2)
"""For others, which may prepare text or write what only one writes; one that has died is noticed at once."""
LONGEST_JOIN = timedelta(minutes=10)
"""For the others to come: launchers start all at once, and nothing is done before."""
BETWEEN_QUESTIONS = 0.02
"""Seconds."""


def device_of_process(device: torch.device, launch: Launch) -> torch.device:
    """Of several processes on a machine with CUDA each has a device of its own.

    Raises LaunchError where there are fewer devices than processes, or the kind of device cannot be shared out.
    """
    if launch.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise LaunchError(f"several processes need a device of cuda or cpu, got {device.type}")
    there = torch.cuda.device_count()
    if launch.local_rank >= there:
        raise LaunchError(f"process {launch.local_rank} of this machine has no CUDA device: there are {there}")
    torch.cuda.set_device(launch.local_rank)
    return torch.device("cuda", launch.local_rank)


def check_division(config: RunConfig, size: int) -> None:
    """Raise LaunchError unless a step's rows can be divided evenly between processes and their micro-batches."""
    rows, parts = config.train.batch_size, config.train.grad_accum_steps
    if size == 1:
        return
    if rows == "auto":
        raise LaunchError(f"train.batch_size auto measures one process: give a number of rows for all {size} together")
    if rows % (size * parts):
        raise LaunchError(
            f"train.batch_size must be a multiple of processes x train.grad_accum_steps ({size} x {parts} = "
            f"{size * parts}), got {rows}"
        )


@contextmanager
def joined(launch: Launch, distributed: DistributedConfig, device: torch.device) -> Iterator[World]:
    """Within the block this process is one of a group; alone, it is a world of its own.

    What goes wrong in all of them is said once. Raises LaunchError for a backend that is not there, and where the
    others do not come within 10 minutes.
    """
    world = World(launch.rank, launch.size)
    if world.size == 1:
        yield world
        return
    backend = _backend(distributed.backend, device)
    store, _, _ = next(rendezvous("env://", timeout=LONGEST_WAIT))
    store = dist.PrefixStore(_agreed_name(store, world), store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=LONGEST_WAIT)
    with said_once(world.rank):
        yield world
    dist.destroy_process_group()


def _agreed_name(store: Any, world: World) -> str:
    """A name under which nothing is in the launcher's store yet, agreed by the processes that live now.

    After a restart the store still holds what an earlier group has written into it, its addresses among that; and
    launchers of several machines do not count restarts alike. So the first process makes a name up, and the others ask
    until somebody answers to it: one that has died does not.
    """
    own = token_hex(8)
    end = time.monotonic() + LONGEST_JOIN.total_seconds()
    if world.is_first:
        store.set("group", own)
        waiting = set(range(1, world.size))
        while waiting:
            for rank in [rank for rank in waiting if store.check([f"{own}/{rank}"])]:
                store.set(f"{own}/{rank}/heard", store.get(f"{own}/{rank}"))
                waiting.remove(rank)
            _pause(world, end)
        return own
    while True:
        if store.check(["group"]):
            name: str = store.get("group").decode("ascii")
            store.set(f"{name}/{world.rank}", own)
            heard = f"{name}/{world.rank}/heard"
            if store.check([heard]) and store.get(heard).decode("ascii") == own:
                return name
        _pause(world, end)


def _pause(world: World, end: float) -> None:
    """Between two questions. Raises LaunchError after `end`, seconds of the monotonic clock."""
    if time.monotonic() > end:
        raise LaunchError(
            f"process {world.rank}: not all {world.size} processes have come within {LONGEST_JOIN}; what the others or "
            "their launchers said tells why"
        )
    time.sleep(BETWEEN_QUESTIONS)


def _backend(name: str, device: torch.device) -> str:
    """The backends by kind of device: counts and signals are always sent by gloo, from the CPU."""
    if name == "gloo" or (name == "auto" and device.type == "cpu"):
        return "gloo"
    if device.type != "cuda" or not dist.is_nccl_available():
        raise LaunchError(f"train.distributed.backend {name} needs CUDA and a torch with NCCL: use gloo")
    return "cpu:gloo,cuda:nccl"


def check_same(world: World, what: str, text: str) -> None:
    """Raise LaunchError in all processes unless all have the same text for something."""
    digest = torch.tensor(list(sha256(text.encode("utf-8")).digest()))
    if any(not torch.equal(digest, other) for other in world.gathered(digest)):
        raise LaunchError(
            f"process {world.rank}: the processes do not have the same {what}; give all the same arguments, and "
            "folders that all machines share"
        )
