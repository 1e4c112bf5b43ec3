import io

import pytest

from apelr_cli.console import result_stream


def test_results_are_utf8_with_plain_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", newline="\r\n"))
    with result_stream() as stream:
        stream.write("é\n")
    assert written.getvalue() == "é\n".encode()


def test_a_stream_that_cannot_be_reconfigured_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stdout", written)
    with result_stream() as stream:
        stream.write("a")
    assert written.getvalue() == "a"
