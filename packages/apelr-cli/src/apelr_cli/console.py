"""Standard output for results."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

__all__ = ["result_stream", "show_report"]


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """Standard output in UTF-8 with line ends as written, whatever the platform's habit.

    It is flushed at the end of the block, while the program can still answer a reader that has gone away.
    """
    with suppress(AttributeError, ValueError, OSError):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    yield sys.stdout
    sys.stdout.flush()


def show_report(report: dict[str, Any], shown: str | None, output: Path | None) -> None:
    """Print the page `shown`, or the object itself, which is also written into the file `output`."""
    written = json.dumps(report, allow_nan=False, indent=2) + "\n"
    if output is not None:
        output.write_text(written, encoding="utf-8", newline="\n")
    with result_stream() as stream:
        stream.write(written if shown is None else shown)
