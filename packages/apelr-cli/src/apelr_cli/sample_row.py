"""One sample as it grows: its tokens, and its text up to a stop string or the end."""

from collections.abc import Sequence
from typing import NamedTuple

from apelr_cli.stop_strings import StopStrings
from apelr_model import GeneratedToken, PlanForecast
from apelr_tokenizers import Tokenizer

__all__ = ["Forecast", "SampleRow", "TokenText"]


class TokenText(NamedTuple):
    """A generated token with the text that it completes, empty for special tokens and half characters."""

    token: GeneratedToken
    text: str


class Forecast(NamedTuple):
    """The plan as foreseen at one place of a sample: its first generated token or the start of a chunk."""

    chunk: int
    position: int
    """t, the target's number from 0: the token is entry t + 1 of the ids."""
    belief: tuple[float, ...]
    """[K] before the token."""
    forecast: tuple[tuple[float, ...], ...]
    """[n][K] 1 ... n chunks ahead."""


class SampleRow:
    """Collects the tokens of one sample.

    `text` ends before the first stop string in the generated text (the prompt is not searched); `tokens` keep
    everything that was generated, so their texts together are `text`, then the stop string, then what the last
    token held beyond it.
    """

    def __init__(self, prompt: str, prompt_ids: Sequence[int], tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self.prompt = prompt
        self.prompt_ids = list(prompt_ids)
        self.tokens: list[TokenText] = []
        self.forecasts: list[Forecast] = []
        self.text = ""
        self.done = False
        self._events = 0
        self._tokenizer = tokenizer
        self._decoder = tokenizer.stream_decoder()
        self._stops = StopStrings(stops)

    @property
    def ids(self) -> list[int]:
        """BOS, the prompt's ids and every generated id."""
        return self.prompt_ids + [entry.token.id for entry in self.tokens]

    def push(self, token: GeneratedToken) -> str:
        """Take the next token; return the text that is now certain. Done after EOS or a stop string."""
        completed = self._decoder.push(token.id)
        self.tokens.append(TokenText(token, completed))
        if token.lookahead:
            self._foresee(len(self.tokens) - 1, token.lookahead)
        passed = self._stops.push(completed)
        self.text += passed
        if token.id == self._tokenizer.eos_id or self._stops.stopped:
            return passed + self.finish()
        return passed

    def foresee(self, event: PlanForecast) -> Forecast | None:
        """Take the forecast of a token that has come before; return it where it is to be shown."""
        self._events += 1
        return self._foresee(event.position - len(self.prompt_ids) + 1, event.probabilities)

    @property
    def is_foreseen(self) -> bool:
        """Whether an event has come for every token."""
        return self._events == len(self.tokens)

    def _foresee(self, index: int, ahead: tuple[tuple[float, ...], ...]) -> Forecast | None:
        """Keep the forecast of a token that is the first or begins a chunk."""
        token = self.tokens[index].token
        if index and token.chunk == self.tokens[index - 1].token.chunk:
            return None
        forecast = Forecast(token.chunk, len(self.prompt_ids) + index - 1, token.belief, ahead)
        self.forecasts.append(forecast)
        return forecast

    def finish(self) -> str:
        """No token will follow: return the text that was still held back."""
        if self.done:
            return ""
        self.done = True
        rest = self._decoder.finish()
        if rest:
            self._give_to_last_text(rest)
        passed = self._stops.push(rest) + self._stops.finish()
        self.text += passed
        return passed

    def _give_to_last_text(self, rest: str) -> None:
        """Add what an unfinished character became to the token that began it; special tokens have no text."""
        for index in range(len(self.tokens) - 1, -1, -1):
            token, text = self.tokens[index]
            if self._tokenizer.decode([token.id]):
                self.tokens[index] = TokenText(token, text + rest)
                return
