"""Rows of .jsonl, .csv and .parquet files as texts, with errors that name the file and the line."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from apelr_data.errors import DataError, one_line
from apelr_data.sources.arrow_text import column_texts, holds_text
from apelr_data.sources.files import open_bytes, text_format
from apelr_data.sources.nearest import listed, nearest_first
from apelr_data.text_policy import decode_utf8

_ROWS_AT_ONCE = 256
_LONGEST_CSV_CELL = 2**31 - 1


def read_rows(path: Path, field: str, key: str = "data.text_field") -> Iterator[str]:
    """The text of every row in the file's order; a row whose text is null is an empty document.

    `key` is the setting that an error about the field names. Undecodable bytes come as surrogates U+DC80..U+DCFF.
    Raises DataError for a malformed row, a missing field or a field that holds no text.
    """
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    return readers[text_format(path) or ""](path, field, key)


def _no_field(path: Path, where: str, field: str, key: str, there: list[str]) -> DataError:
    """The error for a field that is not there."""
    return DataError(f"{str(path)!r}{where} has no field {field!r}; set {key} to one of: {listed(there)}")


def _jsonl_rows(path: Path, field: str, key: str) -> Iterator[str]:
    """One JSON object a line; blank lines are skipped."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            where = f", line {number},"
            try:
                row = json.loads(decode_utf8(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{str(path)!r}{where} is not JSON: {one_line(error)}") from error
            if not isinstance(row, dict):
                raise DataError(f"{str(path)!r}{where} is not a JSON object but {type(row).__name__}")
            if field not in row:
                raise _no_field(path, where, field, key, nearest_first(field, row))
            text = row[field]
            if text is not None and not isinstance(text, str):
                raise DataError(f"{str(path)!r}{where} holds no text in {field!r} but {type(text).__name__}")
            yield text or ""


def _csv_rows(path: Path, field: str, key: str) -> Iterator[str]:
    """Comma-separated values below a line of names; blank lines are skipped."""
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CSV_CELL))  # the standard limit is 128 KiB a cell
    with open_bytes(path) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(lines, strict=True)
        try:
            names = next(rows, [])
            if field not in names:
                raise _no_field(path, "", field, key, nearest_first(field, names))
            column = names.index(field)
            for row in rows:
                if row and len(row) != len(names):
                    counts = f"{len(row)} cells where the first line has {len(names)}"
                    raise DataError(f"{str(path)!r}, line {rows.line_num}, has {counts}")
                if row:
                    yield row[column]
        except csv.Error as error:
            raise DataError(f"{str(path)!r}, line {rows.line_num}, is not CSV: {one_line(error)}") from error


def _parquet_rows(path: Path, field: str, key: str) -> Iterator[str]:
    """The values of one text column, a few rows in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    with open_bytes(path) as stream:
        source = stream if path.suffix.lower() == ".parquet" else io.BytesIO(stream.read())
        try:
            file = pyarrow.parquet.ParquetFile(source, pre_buffer=False)
            names = file.schema_arrow.names
            if field not in names:
                raise _no_field(path, "", field, key, nearest_first(field, names))
            kind = file.schema_arrow.field(field).type
            if not holds_text(kind):
                raise DataError(f"{str(path)!r} holds no text in {field!r} but {kind}")
            # one thread: others might still read when the program ends, which may then hang
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[field], use_threads=False):
                yield from column_texts(batch.column(0))
        except pyarrow.ArrowException as error:
            raise DataError(f"{str(path)!r} is not a parquet file: {one_line(error)}") from error
