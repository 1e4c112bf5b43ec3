"""Rows of .jsonl, .csv and .parquet files."""

import contextlib
import gzip
import io
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apelr_data import DataError
from apelr_data.sources.records import read_rows


def rows_of(tmp_path, name, content, field="text"):
    file = tmp_path / name
    file.write_bytes(content)
    return list(read_rows(file, field))


def error_of(tmp_path, name, content, field="text"):
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path, name, content, field)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(repr(str(tmp_path / name)))
    return message.removeprefix(repr(str(tmp_path / name)))


def parquet_of(tmp_path, name, column, field="text"):
    file = tmp_path / name
    pq.write_table(pa.table({"id": list(range(len(column))), field: column}), file)
    return file.read_bytes()


def test_jsonl(tmp_path):
    content = '\ufeff{"text": "one\\r\\n", "n": 1}\r\n\n  \n{"text": "zwei \\ud800 ä\u2028"}\n{"text": null}'
    assert rows_of(tmp_path, "a.jsonl", content.encode()) == ["one\r\n", "zwei \ud800 ä\u2028", ""]


def test_invalid_utf8_reaches_the_policy_as_surrogates(tmp_path):
    assert rows_of(tmp_path, "a.jsonl", b'{"text": "a\xffb"}\n') == ["a\udcffb"]
    assert rows_of(tmp_path, "a.csv", b"text\na\xffb\n") == ["a\udcffb"]
    broken = pa.array([b"a\xffb", b"fine"]).view(pa.string())
    assert rows_of(tmp_path, "a.parquet", parquet_of(tmp_path, "b.parquet", broken)) == ["a\udcffb", "fine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', ", line 2, is not JSON: Expecting value"),
        (b'\n\n{"text": "a"} {}\n', ", line 3, is not JSON: Extra data"),
        (b"[" * 100_000, ", line 1, is not JSON: "),
        (b'{"text": ' + b"1" * 5000 + b"}", ", line 1, is not JSON: Exceeds the limit"),
        (b'["text"]\n', ", line 1, is not a JSON object but list"),
        (
            b'{"text": "a"}\n{"title": "a", "body": "b"}',
            ", line 2, has no field 'text'; set data.text_field to one of: title, body",
        ),
        (b"{}", ", line 1, has no field 'text'; set data.text_field to one of: (none)"),
        (b'{"text": 3}', ", line 1, holds no text in 'text' but int"),
    ],
)
def test_jsonl_errors_name_the_line(tmp_path, content, message):
    assert error_of(tmp_path, "a.jsonl", content).startswith(message)


def test_csv(tmp_path):
    content = '\ufeffid,body\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,\r\n3,nul\0\r\n'
    assert rows_of(tmp_path, "a.csv", content.encode(), "body") == ['two\r\nlines, "quoted"', "", "nul\0"]


def test_a_csv_cell_of_ten_megabytes(tmp_path):
    cell = "x" * 10_000_000
    assert rows_of(tmp_path, "a.csv", f"text\n{cell}\n".encode()) == [cell]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,body\n1,a\n", " has no field 'text'; set data.text_field to one of: id, body"),
        (b"", " has no field 'text'; set data.text_field to one of: (none)"),
        (b"id,text\n1,a\n\n2\n", ", line 4, has 1 cells where the first line has 2"),
        (b"id,text\n1,a,b\n", ", line 2, has 3 cells where the first line has 2"),
        (b'text\n"never closed\n', ", line 2, is not CSV: unexpected end of data"),
        (b'text\n"a"b\n', ", line 2, is not CSV: "),
    ],
)
def test_csv_errors_name_the_line(tmp_path, content, message):
    assert error_of(tmp_path, "a.csv", content).startswith(message)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_text_of_every_kind(tmp_path, kind):
    texts = ["one", None, "ä\r\n\0", *["many"] * 600]
    column = pa.array(texts).cast(kind) if kind != pa.binary() else pa.array([t and t.encode() for t in texts], kind)
    content = parquet_of(tmp_path, "a.parquet", column, "body")
    assert rows_of(tmp_path, "b.parquet", content, "body") == ["one", "", "ä\r\n\0", *["many"] * 600]


def test_compressed_rows(tmp_path):
    assert rows_of(tmp_path, "a.jsonl.gz", gzip.compress(json.dumps({"text": "x"}).encode())) == ["x"]
    assert rows_of(tmp_path, "a.csv.gz", gzip.compress(b"text\nx\n")) == ["x"]
    content = parquet_of(tmp_path, "b.parquet", ["x", "y"])
    assert rows_of(tmp_path, "a.parquet.gz", gzip.compress(content)) == ["x", "y"]


def test_parquet_errors(tmp_path):
    content = parquet_of(tmp_path, "b.parquet", ["x"], "body")
    message = " has no field 'text'; set data.text_field to one of: id, body"
    assert error_of(tmp_path, "a.parquet", content) == message
    assert error_of(tmp_path, "a.parquet", content, "id") == " holds no text in 'id' but int64"
    assert error_of(tmp_path, "a.parquet", b"this is not parquet").startswith(" is not a parquet file: ")
    assert error_of(tmp_path, "a.parquet", b"").startswith(" is not a parquet file: ")


class WatchedFile(io.BytesIO):
    """Notes which threads read it."""

    def __init__(self, content):
        super().__init__(content)
        self.threads = set()

    def read(self, *arguments):
        self.threads.add(threading.current_thread())
        return super().read(*arguments)


def test_parquet_is_read_by_the_calling_thread_alone(tmp_path, monkeypatch):
    texts = [f"row {i} " * 50 for i in range(3000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=500)
    watched = WatchedFile((tmp_path / "a.parquet").read_bytes())
    monkeypatch.setattr("apelr_data.sources.records.open_bytes", lambda path: contextlib.nullcontext(watched))
    assert list(read_rows(tmp_path / "a.parquet", "text")) == texts
    assert watched.threads == {threading.current_thread()}
