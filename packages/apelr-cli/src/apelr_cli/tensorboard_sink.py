"""Metrics as TensorBoard's event files, written by tensorboardX: neither TensorBoard nor a network is needed."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from apelr_cli.metric_sinks import scalars

__all__ = ["FOLDER", "TensorBoardSink"]

FOLDER = "tensorboard"
"""The folder of the event files in that of the run."""


class TensorBoardSink:
    """One event file: a scalar `kind/name` for each number of a line, text for a preview and for what was skipped.

    Events are written and flushed at once and in this thread, so that a kill loses none, and a disk that fails ends the
    run in one line as everywhere else. Times are those of writing: in a run that was taken up, those of the taking up.
    """

    def __init__(self, run_folder: Path) -> None:
        """Begin an empty event file; those of an earlier part of the run go. Raises OSError."""
        folder = run_folder / FOLDER
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        folder.mkdir()
        self._writer = EventsWriter(str(folder / "events"))

    def write(self, line: Mapping[str, Any]) -> None:
        """Take one line of metrics.jsonl."""
        kind, step = line["kind"], line["step"]
        found = [summary.scalar(f"{kind}/{name}", value) for name, value in scalars(line).items()]
        found += [
            summary.text(f"{kind}/{name}", value)
            for name, value in line.items()
            if isinstance(value, str) and name != "kind"
        ]
        for each in found:
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=each))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
