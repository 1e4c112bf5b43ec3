import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from apelr_cli.report.comparison import compare_runs
from apelr_cli.report.comparison_output import comparison_lines, comparison_page, comparison_report
from apelr_cli.report.run_files import read_run_files

VERSIONS = ("v2_planner_required", "v1_filtered_mixture", "transformer_lm")


@pytest.fixture(scope="module")
def compared(run_of: Callable[..., Path]) -> tuple:
    return compare_runs([run_of(version) for version in VERSIONS], device="cpu", say=lambda line: None)


def test_the_figures_are_those_of_the_runs_files(compared: tuple, run_of: Callable[..., Path]) -> None:
    found, _ = compared
    for column, version in zip(found.columns, VERSIONS, strict=True):
        files = read_run_files(run_of(version))
        assert (column.name, column.version, column.finished) == (version, version, True)
        assert column.bits_per_byte == files.final["validation"]["bits_per_byte"]
        assert column.frozen_delta == files.planner["frozen_delta_loss"]
        assert column.parameters == files.about["parameters"]["total"]
    assert [column.plan_states for column in found.columns] == [3, 40, 1]
    assert found.columns[2].plan_mi is None
    assert found.notes == ()


def test_states_of_two_versions_are_matched_on_the_same_tokens(compared: tuple) -> None:
    match, other = compared[0].matches
    assert (match.first, match.second, match.reason) == (*VERSIONS[:2], "")
    assert len(match.matching) == 3
    assert len(set(match.matching)) == 3
    assert sum(map(sum, match.table)) == pytest.approx(match.targets)
    assert other.reason == "it has no chain of plans"


def test_a_run_agrees_with_itself(run_of: Callable[..., Path], tmp_path: Path) -> None:
    again = tmp_path / "again" / "v2_planner_required"
    shutil.copytree(run_of(), again)
    found, _ = compare_runs([run_of(), again], device="cpu", say=lambda line: None)
    assert found.matches[0].matching == (0, 1, 2)
    assert [column.name for column in found.columns] == [str(run_of()), str(again)], "two folders of one name"


def test_what_keeps_runs_from_being_compared_is_said(
    run_of: Callable[..., Path], unfinished: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_of(), other)
    metrics = (other / "metrics.json").read_text(encoding="utf-8")
    (other / "metrics.json").write_text(metrics.replace('"text_bytes": ', '"text_bytes": 9'), encoding="utf-8")
    found, _ = compare_runs([run_of(), unfinished, other], device="cpu", with_plans=False, say=lambda line: None)
    assert found.matches == ()
    assert "unfinished is not finished" in found.notes[0]
    assert "the held-out texts differ" in found.notes[1]
    assert found.columns[1].uniform_delta is None
    assert "2 of 4, not finished" in "\n".join(comparison_lines(found)) or found.columns[1].step == 4


def test_the_table_the_object_and_the_page_say_the_same(compared: tuple) -> None:
    found, runs = compared
    lines = "\n".join(comparison_lines(found))
    report = comparison_report(found)
    page = comparison_page(found, runs)
    bits = f"{found.columns[0].bits_per_byte:.4f}"
    assert bits in lines
    assert bits in page
    assert report["runs"][0]["bits_per_byte"] == found.columns[0].bits_per_byte
    assert report["plans"][0]["matching"] == list(found.matches[0].matching)
    assert "states: 0 = " in lines
    assert page.count('class="frame"') == 3
    assert "not matched with v2_planner_required: it has no chain of plans" in page
