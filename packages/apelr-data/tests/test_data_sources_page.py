"""docs/data_sources.md says what the code does."""

from pathlib import Path

import pytest

from apelr_data import SOURCES
from apelr_data.sources.hub_probe import PROBE_SECONDS
from apelr_data.sources.hub_rows import DOWNLOAD_PAUSES, READ_ATTEMPTS

PAGE = (Path(__file__).parents[3] / "docs" / "data_sources.md").read_text(encoding="utf-8")
TOKENS_A_PARAMETER, BYTES_A_TOKEN = 20, 4


def rows_below(head):
    lines = PAGE[PAGE.index(head) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_its_table_is_the_table_of_sources():
    expected = []
    for info in SOURCES.values():
        hub = f"`{info.hub_id}`, `{info.hub_config}`" if info.hub_id else "`data.path`, `data.name`"
        where = "no network" if info.offline else hub
        expected.append([f"`{info.name}`", info.summary, where, info.size, info.licence, info.splits, info.reading])
    assert rows_below("| `data.source` |") == expected


def number(text):
    value, unit = text.split()
    return float(value) * {"thousand": 1e3, "million": 1e6, "billion": 1e9, "MB": 1e6, "GB": 1e9}[unit]


def test_its_budgets_follow_the_rule():
    rows = rows_below("| parameters |")
    assert [row[0] for row in rows] == [f"{n} million" for n in (1, 3, 10, 30, 100, 300)] + ["1 billion"]
    for parameters, tokens, size, enough in rows:
        assert number(tokens) == TOKENS_A_PARAMETER * number(parameters)
        assert number(size) == BYTES_A_TOKEN * number(tokens)
        suffice = [f"`{info.name}`" for info in SOURCES.values() if (info.text_bytes or 0) >= number(size)]
        assert enough == ", ".join(suffice)


@pytest.mark.parametrize(
    "words",
    [
        f"does not answer within {PROBE_SECONDS:.0f} seconds",
        {4: "tried four times; a download is tried four times"}[READ_ATTEMPTS],
    ],
)
def test_its_numbers_are_the_codes(words):
    assert words in " ".join(PAGE.split())
    assert len(DOWNLOAD_PAUSES) + 1 == READ_ATTEMPTS
