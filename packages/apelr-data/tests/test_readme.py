"""The README says what the code does."""

import re
from pathlib import Path

from apelr_data import SOURCES
from apelr_data.sources.hub_probe import PROBE_SECONDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_its_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "TextReport(documents=200" in capsys.readouterr().out


def test_its_table_is_the_table_of_sources():
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in README.splitlines() if "| `" in line]
    expected = []
    for info in list(SOURCES.values()):
        hub = f"`{info.hub_id}`, `{info.hub_config}`" if info.hub_id else "`data.path`, `data.name`"
        where, reading = "no network" if info.offline else hub, info.reading
        expected.append([f"`{info.name}`", info.summary, where, info.size, info.licence, info.splits, reading])
    assert rows[1:] == expected


def test_its_numbers_are_the_codes():
    assert f"within\n{PROBE_SECONDS:.0f} seconds" in README
