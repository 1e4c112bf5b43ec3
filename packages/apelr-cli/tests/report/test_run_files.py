from collections.abc import Callable
from pathlib import Path

import pytest

from apelr_cli.report.run_files import read_run_files
from apelr_cli.run_folder import RunError


def test_a_finished_run(run_of: Callable[..., Path]) -> None:
    files = read_run_files(run_of())
    assert (files.name, files.is_finished, files.step, files.max_steps) == ("v2_planner_required", True, 4, 4)
    assert files.evaluation == files.final["validation"]
    assert len(files.planner["states"]) == 3


def test_an_unfinished_run_has_its_newest_evaluation(unfinished: Path) -> None:
    files = read_run_files(unfinished)
    assert not files.is_finished
    assert files.planner == {}
    assert files.evaluation["kind"] == "validation"
    assert files.evaluation["step"] == 2


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        read_run_files(tmp_path)
    with pytest.raises(RunError, match="is not a folder"):
        read_run_files(tmp_path / "missing")
