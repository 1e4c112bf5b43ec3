"""Columns of Arrow as text."""

from collections.abc import Iterator
from typing import Any

from apelr_data.text_policy import decode_utf8


def holds_text(kind: Any) -> bool:
    """Whether a column of the Arrow type `kind` holds text: strings, bytes, or either with a dictionary."""
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    text = (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view())
    return kind in (*text, pyarrow.binary(), pyarrow.large_binary())


def column_texts(column: Any) -> Iterator[str]:
    """The texts of an array, undecodable bytes as surrogates U+DC80..U+DCFF; null is an empty text."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    for value in column.cast(pyarrow.large_binary()).to_pylist():  # as bytes, so that invalid UTF-8 gets through
        yield decode_utf8(value or b"")
