"""Progress while a token cache is written."""

import io

import pytest
from rich.console import Console

from apelr_cli import packing_progress as module
from apelr_cli.packing_progress import packing_progress
from apelr_data import DataConfig


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, legacy_windows=False)


def test_elsewhere_than_on_a_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    out = console(terminal=False)
    with packing_progress(DataConfig(), out, quiet=False) as progress:
        for count in (1, 2, 3, 4):
            progress("train", count, 1000 * count, 4_000_000 * count)
    assert out.file.getvalue() == (
        "train: 2 documents, 2,000 tokens, 8.0 MB of text\ntrain: 4 documents, 4,000 tokens, 16.0 MB of text\n"
    )


def test_a_terminal_has_a_bar_for_each_split() -> None:
    out = console(terminal=True)
    with packing_progress(DataConfig(max_train_tokens=2000), out, quiet=False) as progress:
        progress("train", 1, 1000, 4000)
        progress("train", 2, 2000, 8000)
        progress("validation", 1, 10, 40)
    shown = out.file.getvalue()
    assert "2 documents, 2,000 tokens" in shown
    assert "validation" in shown


@pytest.mark.parametrize(
    ("caps", "share"),
    [
        ({}, (0, None)),
        ({"max_train_tokens": 400}, (100, 400)),
        ({"max_train_tokens": 400, "max_train_examples": 8}, (5, 8)),
        ({"max_train_chars": 1000, "max_val_tokens": 100}, (0, None)),
    ],
)
def test_a_cap_says_where_the_end_is_and_of_several_the_nearest(caps: dict, share: tuple) -> None:
    with packing_progress(DataConfig(**caps), console(terminal=True), quiet=False) as progress:
        assert progress._share("train", 5, 100) == share


def test_quiet_is_quiet() -> None:
    with packing_progress(DataConfig(), console(terminal=True), quiet=True) as progress:
        assert progress is None
