"""Whether this is one of several processes that a launcher (`torchrun`) has started; nothing here needs torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep
from typing import NamedTuple

import click

from apelr_cli.distributed_config import DistributedConfig

__all__ = ["Launch", "LaunchError", "check_launch", "find_launch", "said_once"]

SECONDS_TO_SAY = 10
"""How long the others leave what has gone wrong to the first process to say."""
COMMAND = "torchrun --nproc-per-node N -m apelr_cli train ..."


class LaunchError(ValueError):
    """The processes that were started do not fit what the config says."""


class Launch(NamedTuple):
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """The rank among the processes of this machine."""
    is_launched: bool = False
    """Whether a launcher has started it, maybe alone."""


def find_launch() -> Launch:
    """What the launcher's environment variables say. Raises LaunchError where they are no numbers.

    Where there are several processes torch is told, unless it has been imported or is told otherwise, to keep what is
    of no concern to users to itself.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    texts = [os.environ.get(name, "0") for name in names]
    if not all(text.isdecimal() for text in texts) or int(texts[0]) >= int(texts[1]):
        found = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
        raise LaunchError(f"the environment does not say which process this is ({found}): start it with {COMMAND}")
    if int(texts[1]) > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    rank, size, local_rank = map(int, texts)
    return Launch(rank, size, local_rank, is_launched=True)


def check_launch(launch: Launch, distributed: DistributedConfig) -> None:
    """Raise LaunchError where several processes would each train a model of their own, or one waits for none."""
    if launch.size > 1 and distributed.strategy == "none":
        raise LaunchError(
            f"{launch.size} processes were started, but train.distributed.strategy is none: each would train a model "
            "of its own; add --set train.distributed.strategy=ddp (or fsdp)"
        )
    if distributed.strategy != "none" and not launch.is_launched:
        raise LaunchError(
            f"train.distributed.strategy {distributed.strategy} is for processes that a launcher starts: {COMMAND}; "
            "for one process add --set train.distributed.strategy=none"
        )


@contextmanager
def said_once(rank: int) -> Iterator[None]:
    """Within the block, what goes wrong in all processes alike is said by the one of rank 0 alone.

    The others wait before they raise it: when the first has said it, and ended, the launcher ends them. What has gone
    wrong in one of them alone is said after the wait.
    """
    try:
        yield
    except (ValueError, OSError, click.ClickException):
        if rank:
            sleep(SECONDS_TO_SAY)
        raise
