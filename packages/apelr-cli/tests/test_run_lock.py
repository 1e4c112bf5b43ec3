"""One run at a time in a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from apelr_cli.run_folder import RunError
from apelr_cli.run_lock import RunLock

HOLD = "import sys, pathlib; from apelr_cli.run_lock import RunLock\n"
HOLD += "with RunLock(pathlib.Path(sys.argv[1])) as lock: lock.take(); print('held', flush=True); sys.stdin.read()"


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        for take in (RunLock.take, RunLock.take_if_used):
            with (
                RunLock(tmp_path / "run") as lock,
                pytest.raises(RunError, match="another process trains in "),
            ):
                take(lock)
        process.kill()
        process.wait()
        with RunLock(tmp_path / "run") as lock:
            lock.take()


def test_it_may_be_taken_twice_and_is_let_go_of(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        lock.take()
        lock.take()
    with RunLock(tmp_path) as lock:
        lock.take_if_used()


def test_a_folder_that_no_run_has_used_stays_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new"):
        with RunLock(folder) as lock:
            lock.take_if_used()
    assert not list(tmp_path.iterdir())
