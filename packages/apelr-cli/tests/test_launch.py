"""Which of several processes this is, and refusals where a config and a launch do not fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click import UsageError
from click.testing import Result

from apelr_cli.distributed_config import DistributedConfig
from apelr_cli.launch import Launch, LaunchError, check_launch, find_launch, said_once

DDP = DistributedConfig(strategy="ddp")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what a launcher sets."""
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
    monkeypatch.setattr("apelr_cli.launch.SECONDS_TO_SAY", 0)

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


@pytest.mark.parametrize(
    "error", [LaunchError("no"), FileNotFoundError(2, "no", "file"), UsageError("no"), KeyError(1)]
)
def test_the_others_leave_it_to_the_first_to_say_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("apelr_cli.launch.sleep", waited.append)
    for rank, expected in [(0, []), (1, [] if isinstance(error, KeyError) else [10])]:
        with pytest.raises(type(error)), said_once(rank):
            raise error
        assert waited == expected
    with said_once(2):
        pass


def test_a_mistake_of_the_command_line_is_said_once(
    apelr: Callable[..., Result], launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class LauncherEndsItError(Exception):
        pass

    def sleep(seconds: float) -> None:
        raise LauncherEndsItError

    monkeypatch.setattr("apelr_cli.launch.sleep", sleep)
    for arguments in (["--set", "seed=x"], ["--force", "--resume", "auto"], []):
        command = ("train", "--config", "quickstart", *arguments)
        launched(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
        assert "Error: " in apelr(*command).stderr
        launched(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")
        ended = apelr(*command)
        assert isinstance(ended.exception, LauncherEndsItError)
        assert not ended.stderr
    assert apelr("train", "--config", "quickstart", "--print-config").stdout == ""
