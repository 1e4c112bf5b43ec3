"""Writing a page: whole or not at all, and never over a file that is no page of ours."""

from pathlib import Path

from apelr_cli.report.page import MARK
from apelr_cli.run_folder import RunError, RunFolder

__all__ = ["check_output", "write_page"]

WITHIN = 512
"""Bytes from the beginning of a page within which the mark of our pages stands."""


def check_output(path: Path) -> None:
    """Raise RunError where `path` holds something that is no page made here, or lies in no folder."""
    if not path.parent.is_dir():
        raise RunError(f"{path.parent} is not a folder; give another place with -o")
    if not path.exists() and not path.is_symlink():
        return
    if path.is_file():
        with path.open("rb") as file:
            if MARK.encode("utf-8") in file.read(WITHIN):
                return
    raise RunError(f"{path} exists and is not a page of apelr's; remove it, or give another place with -o")


def write_page(path: Path, page: str) -> None:
    """Write the page whole or not at all. Raises RunError as `check_output`, and OSError."""
    check_output(path)
    RunFolder(path.parent).write_text(path.name, page)
