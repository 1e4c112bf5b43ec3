"""The README says what the code does."""

import re
from pathlib import Path

from apelr_data.row_order import BLOCK_ROWS
from apelr_data.sources.hub_probe import PROBE_SECONDS
from apelr_data.sources.long_text import PART_BYTES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_its_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "TextReport(documents=200" in capsys.readouterr().out


def test_its_numbers_are_the_codes():
    assert f"does not answer within {PROBE_SECONDS:.0f} seconds" in README
    assert f"of more than {BLOCK_ROWS:,} rows" in README
    assert README.count(f"{PART_BYTES >> 20} MiB") == 3
