"""Which of several processes this is, and refusals where a config and a launch do not fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from apelr_cli.distributed_config import DistributedConfig
from apelr_cli.launch import Launch, LaunchError, check_launch, find_launch

DDP = DistributedConfig(strategy="ddp")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what a launcher sets."""
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")

    def launch(**variables: str) -> None:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return launch


def test_a_process_that_nobody_launched_is_alone(launched: Callable[..., None]) -> None:
    launched()
    assert find_launch() == Launch(0, 1, 0, False)


def test_a_launched_process_knows_its_place(launched: Callable[..., None]) -> None:
    launched(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1")
    assert find_launch() == Launch(5, 8, 1, True)


@pytest.mark.parametrize(("rank", "size"), [("two", "4"), ("4", "4"), ("0", "0"), ("-1", "2")])
def test_an_environment_that_makes_no_sense_is_refused(launched: Callable[..., None], rank: str, size: str) -> None:
    launched(RANK=rank, WORLD_SIZE=size)
    with pytest.raises(LaunchError, match=f"RANK={rank}, WORLD_SIZE={size}"):
        find_launch()


def test_several_processes_need_a_strategy() -> None:
    with pytest.raises(LaunchError, match=r"4 processes .* add --set train.distributed.strategy=ddp"):
        check_launch(Launch(1, 4, 1, True), DistributedConfig())
    check_launch(Launch(1, 4, 1, True), DDP)
    check_launch(Launch(0, 1, 0, True), DistributedConfig())


def test_a_strategy_needs_a_launcher() -> None:
    with pytest.raises(LaunchError, match="torchrun --nproc-per-node N -m apelr_cli train"):
        check_launch(Launch(), DDP)
    check_launch(Launch(0, 1, 0, True), DDP)


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_copies_of_a_run_are_never_made(
    launched: Callable[..., None], apelr: Callable[..., Result], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    launched(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")
    result = apelr("train", "--config", "quickstart", "--out", tmp_path / "run", *flags)
    assert result.exit_code == 1
    assert "2 processes were started, but train.distributed.strategy is none" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
