from pathlib import Path

import pytest

from apelr_cli.report.page import MARK
from apelr_cli.report.writing import check_output, write_page
from apelr_cli.run_folder import RunError


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    page, other = tmp_path / "report.html", tmp_path / "notes.html"
    write_page(page, f"<!doctype html>{MARK} one")
    write_page(page, f"<!doctype html>{MARK} two")
    assert page.read_text(encoding="utf-8").endswith("two")
    other.write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="is not a page of apelr's"):
        write_page(other, MARK)
    assert other.read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.html", "report.html"]


def test_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a page"):
        check_output(tmp_path)
    with pytest.raises(RunError, match="is not a folder"):
        check_output(tmp_path / "missing" / "report.html")
