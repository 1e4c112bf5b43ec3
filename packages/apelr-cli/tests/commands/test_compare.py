import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from apelr_cli.run_config import RunConfig, to_yaml
from apelr_cli.run_folder import RunFolder

Run = Callable[..., Result]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs that have logged something and saved no checkpoint."""
    folders = [tmp_path / name for name in ("first", "second")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "config.yaml").write_text(to_yaml(RunConfig()), encoding="utf-8")
        evaluation = {"nll": 1.5 + number, "bits_per_byte": 0.5 + number, "usage": [0.5, 0.5], "plan_mi": 0.25}
        RunFolder(folder).append_metrics({"kind": "train", "step": 10, "nll": 2.0, "tokens_per_second": 1234.0})
        RunFolder(folder).append_metrics({"kind": "validation", "step": 10, **evaluation})
    return folders


def test_a_table_with_a_column_for_each_run(apelr: Run, runs: list[Path]) -> None:
    result = apelr("compare", *runs, "--no-plans")
    assert result.exit_code == 0, result.output
    rows = {line[:30].strip(): line[30:].split() for line in result.stdout.splitlines()}
    assert rows["bits per byte"] == ["0.5000", "1.5000"]
    assert rows["tokens/s in training (median)"] == ["1,234", "1,234"]
    assert "Note: first is not finished" in result.stdout


def test_an_object_and_a_page(apelr: Run, runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    result = apelr("compare", *runs, "--no-plans", "--format", "json", "-o", page)
    assert [run["nll"] for run in json.loads(result.stdout)["runs"]] == [1.5, 2.5]
    assert 'data-chart="bits_per_byte"' in page.read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_said_in_a_line(apelr: Run, runs: list[Path], tmp_path: Path) -> None:
    assert "two runs or more" in apelr("compare", runs[0]).stderr
    assert "is not a folder" in apelr("compare", runs[0], tmp_path / "missing").stderr
    without = apelr("compare", *runs)
    assert without.exit_code == 1
    assert "Error: " in without.stderr
    (runs[0] / "metrics.jsonl").write_text("no json\n", encoding="utf-8")
    damaged = apelr("compare", *runs, "--no-plans")
    assert damaged.exit_code == 1
    assert "holds a line that is not JSON" in damaged.stderr
