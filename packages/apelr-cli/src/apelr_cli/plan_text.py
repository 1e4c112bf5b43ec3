"""`apelr sample --show-plan`: text coloured or marked by the plan state under which each token was drawn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO

import torch

from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import PlanChoice
from apelr_cli.plan_output import likeliest
from apelr_cli.plan_paint import PlanPaint
from apelr_cli.sample_output import TextOutput, forecast_line
from apelr_cli.sample_row import Forecast, SampleRow
from apelr_cli.terminal_text import quoted, visible
from apelr_model import forecast, typical_tokens

__all__ = ["PlanLegend", "PlanTextOutput"]

STEPS_AHEAD = 3
"""Chunks of the forecast where no number of them is asked for."""
WORDS_SHOWN = 5
"""Typical tokens of a state."""


class PlanLegend:
    """What stands below a sample: its plan states, and the forecast from its last token."""

    def __init__(self, loaded: LoadedModel, choice: PlanChoice, *, steps: int = 0, with_words: bool = True) -> None:
        """`steps` chunks ahead (0: three); `with_words` costs another reading of the sample."""
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._choice = choice
        self._steps = steps or STEPS_AHEAD
        self._with_words = with_words

    def lines(self, row: SampleRow, paint: PlanPaint) -> Iterator[str]:
        """States by the number of tokens before which they were the likeliest, each with its typical tokens."""
        beliefs = [token.belief for token, _ in row.tokens]
        if not beliefs:
            yield "no token was generated, so no plan state is shown"
            return
        counts = Counter(map(likeliest, beliefs))
        words = self._words(row) if self._with_words else {}
        used = f"{len(counts)} of {len(beliefs[0])} plan states"
        yield f"{used}, the likeliest before each of {len(beliefs)} tokens:"
        for state, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
            line = f"  {paint.label(state)} {count / len(beliefs):>6.1%}  {words.get(state, '')}"
            yield line.rstrip()
        yield "forecast: " + forecast_line(self._forecast(row))

    def _words(self, row: SampleRow) -> dict[int, str]:
        policy = self._choice.policy
        if self._choice.freeze_planner:
            policy = replace(policy, freeze_after=len(row.prompt_ids) - 1)
        found = typical_tokens(self._model, row.ids, count=WORDS_SHOWN, policy=policy)
        return {
            k: ", ".join(f"{self._quoted(each.id)} {each.lift:.1f}" for each in each_of)
            for k, each_of in enumerate(found)
        }

    def _quoted(self, token: int) -> str:
        text = self._tokenizer.decode([token])
        return quoted(text) if text else f"id {token}"

    def _forecast(self, row: SampleRow) -> Forecast:
        """From the belief before the last token."""
        token = row.tokens[-1].token
        belief = torch.tensor([token.belief], dtype=torch.float64)
        with torch.no_grad():
            ahead = forecast(belief.log(), self._model.log_transition().cpu(), self._steps)[0].exp()
        return Forecast(token.chunk, len(row.ids) - 2, token.belief, tuple(map(tuple, ahead.tolist())))


class PlanTextOutput(TextOutput):
    """`TextOutput` whose continuation shows the likeliest plan state before each token, with a legend below it.

    The state's number stands in brackets where it changes, unless the colours tell all states apart. Control characters
    are written out, whatever the stream.
    """

    def __init__(self, stream: TextIO, prompt: str, count: int, paint: PlanPaint, legend: PlanLegend) -> None:
        super().__init__(stream, visible(prompt), count)
        self._paint = paint
        self._legend = legend
        self._cursors = [TextCursor() for _ in range(count)]
        self._states: list[int | None] = [None] * count

    def add(self, index: int, text: str, row: SampleRow) -> None:
        """Print `text` in its colours now if it is the turn of sample `index`, else later."""
        self._put(index, "".join(self._painted(index, text, row)))

    def close(self, row: SampleRow) -> None:
        """Print the legend of a sample that is complete."""
        self._write("".join(f"{line}\n" for line in self._legend.lines(row, self._paint)))

    def _painted(self, index: int, text: str, row: SampleRow) -> Iterator[str]:
        for state, piece in self._cursors[index].take(len(text), row):
            changed = state != self._states[index]
            self._states[index] = state
            if changed and self._paint.marks:
                yield self._paint.label(state)
            yield self._paint.paint(state, visible(piece))


class TextCursor:
    """A place in the text of a growing sample: in the text of its token number `token`, after `offset` characters."""

    def __init__(self) -> None:
        self.token = 0
        self.offset = 0

    def take(self, count: int, row: SampleRow) -> Iterator[tuple[int, str]]:
        """The next `count` characters, cut where a token ends, with the likeliest state before each token."""
        while count:
            token, text = row.tokens[self.token]
            piece = text[self.offset : self.offset + count]
            if piece:
                yield likeliest(token.belief), piece
                self.offset += len(piece)
                count -= len(piece)
            else:
                self.token, self.offset = self.token + 1, 0
