"""The two forms in which samples leave the program: text as it is made, and a JSON line for each sample."""

import json
from collections.abc import Sequence
from typing import TextIO

import click

from apelr_cli.sample_row import Forecast, SampleRow
from apelr_cli.terminal_text import for_terminal

__all__ = ["JsonOutput", "TextOutput", "forecast_line", "sample_record"]

STATES_SHOWN = 3
"""Plan states named in each belief of the forecast display, most likely first."""


class TextOutput:
    """Prompt and continuation as plain text, each ended by one newline; forecasts go to standard error.

    Forecasts follow their sample, or where they are events of their own come at once. The first sample that is not
    complete streams; text of later ones waits for its turn. Where there are several, a line `--- sample 2 of 3 ---`
    stands before each. A terminal is shown control characters written out; elsewhere the text is what it is.
    """

    def __init__(self, stream: TextIO, prompt: str, count: int) -> None:
        self._stream = stream
        self._prompt = for_terminal(prompt, stream)
        self._count = count
        self._waiting: list[list[str]] = [[] for _ in range(count)]
        self._ended: dict[int, SampleRow] = {}
        self._live = 0
        self._shown: set[int] = set()

    def start(self) -> None:
        """Print the prompt."""
        self._open()

    def add(self, index: int, text: str, row: SampleRow) -> None:
        """Print `text` now if it is the turn of sample `index`, else later."""
        self._put(index, for_terminal(text, self._stream))

    def close(self, row: SampleRow) -> None:
        """Nothing stands below a sample."""

    def _put(self, index: int, text: str) -> None:
        if index == self._live:
            self._write(text)
        else:
            self._waiting[index].append(text)

    def foresee(self, index: int, forecast: Forecast) -> None:
        """Print a forecast, whichever sample's turn it is."""
        self._shown.add(index)
        self._show(index, forecast)

    def end(self, index: int, row: SampleRow) -> None:
        """Finish the sample and turn to the next one that is not complete."""
        self._ended[index] = row
        while (ended := self._ended.pop(self._live, None)) is not None:
            self._write("\n")
            self.close(ended)
            if self._live not in self._shown:
                for forecast in ended.forecasts:
                    self._show(self._live, forecast)
            self._live += 1
            if self._live < self._count:
                self._open()

    def abandon(self) -> None:
        """Close the line that is being written."""
        self._write("\n")

    def _show(self, index: int, forecast: Forecast) -> None:
        prefix = f"sample {index + 1}, " if self._count > 1 else ""
        click.echo(prefix + forecast_line(forecast), err=True)

    def _open(self) -> None:
        header = f"--- sample {self._live + 1} of {self._count} ---\n" if self._count > 1 else ""
        self._write(header + self._prompt + "".join(self._waiting[self._live]))
        self._waiting[self._live].clear()

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


class JsonOutput:
    """One line of JSON (ASCII) for each sample, in order, as soon as it and those before it are complete."""

    def __init__(self, stream: TextIO, gate: str) -> None:
        """`gate` is said of every sample: is it the exact filter?"""
        self._stream = stream
        self._gate = gate
        self._ended: dict[int, SampleRow] = {}
        self._next = 0

    def start(self) -> None:
        """Print nothing."""

    def add(self, index: int, text: str, row: SampleRow) -> None:
        """Print nothing: a line is written when its sample is complete."""

    def foresee(self, index: int, forecast: Forecast) -> None:
        """Print nothing: the line of a sample holds its forecasts."""

    def end(self, index: int, row: SampleRow) -> None:
        """Print the lines whose turn it is."""
        self._ended[index] = row
        while (ended := self._ended.pop(self._next, None)) is not None:
            json.dump(sample_record(ended, self._gate), self._stream, allow_nan=False)
            self._stream.write("\n")
            self._stream.flush()
            self._next += 1

    def abandon(self) -> None:
        """Print nothing."""


def sample_record(row: SampleRow, gate: str) -> dict[str, object]:
    """The JSON object of a sample. `text` is the continuation alone; `ids` are BOS, prompt and continuation."""
    return {
        "prompt": row.prompt,
        "text": row.text,
        "ids": row.ids,
        "tokens": [
            {
                "id": token.id,
                "text": text,
                "log_prob": token.log_prob,
                "chunk": token.chunk,
                "belief": list(token.belief),
            }
            for token, text in row.tokens
        ],
        "lookahead": [
            {
                "chunk": entry.chunk,
                "position": entry.position,
                "belief": list(entry.belief),
                "forecast": [list(step) for step in entry.forecast],
            }
            for entry in row.forecasts
        ],
        "gate": gate,
    }


def forecast_line(entry: Forecast) -> str:
    """One line: chunk and position, then the most likely plan states now and 1, 2, ... chunks ahead."""
    ahead = "".join(f" | +{s} {_most_likely(belief)}" for s, belief in enumerate(entry.forecast, start=1))
    return f"chunk {entry.chunk} (position {entry.position}): now {_most_likely(entry.belief)}{ahead}"


def _most_likely(belief: Sequence[float]) -> str:
    order = sorted(range(len(belief)), key=lambda state: -belief[state])[:STATES_SHOWN]
    return " ".join(f"{state}:{belief[state]:.2f}" for state in order)
