"""Beliefs over a live stream: what state a service is in, told event by event as its log is written.

The tables are written by hand here; any network's log-likelihoods would do. Run, typing or piping in events:
    printf 'ok ok ok slow slow fail fail fail fail ok ok ok' | python live_beliefs.py
"""

import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model import ChunkRule, StreamingFilter, StreamState

STATES = ("healthy", "loaded", "down")
EVENTS = ("ok", "slow", "fail")
INITIAL = torch.tensor([0.8, 0.15, 0.05])
TRANSITION = torch.tensor([[0.90, 0.08, 0.02], [0.25, 0.60, 0.15], [0.10, 0.10, 0.80]])
EMISSION = torch.tensor([[0.94, 0.05, 0.01], [0.50, 0.40, 0.10], [0.05, 0.15, 0.80]])  # p(event | state)
SECONDS = 3  # events that share a state: one a second, and the state may change every third


class Seen(NamedTuple):
    """What is known once an event has come."""

    event: str
    surprise: float
    """-log p(event | all before it), nats."""
    belief: Tensor
    """[K] of the state now."""
    forecast: Tensor
    """[2, K] of the state in the next two spans."""
    hindsight: Tensor
    """[K] of the state in the span before this one; 0 in the first."""


def watch(events: Iterable[str], stream: StreamingFilter) -> Iterator[Seen]:
    """Yield what is known after each event, before the next one is asked for. ValueError for an unknown event."""
    for event in events:
        if event not in EVENTS:
            raise ValueError(f"an event must be one of {', '.join(EVENTS)}, got {event!r}")
        step = stream.step(EMISSION[:, EVENTS.index(event)].log())
        belief, ahead, past = step.log_belief_after.exp(), stream.forecast(2).exp(), stream.smoothed()[0].exp()
        yield Seen(event, -float(step.token_log_prob), belief, ahead, past)


def new_stream(state: StreamState | None = None) -> StreamingFilter:
    """A stream from its start, or from where another one stood; it holds the same few numbers however long it runs."""
    stream = StreamingFilter(INITIAL.log(), TRANSITION.log(), ChunkRule(chunk_size=SECONDS), lag=1)
    if state is not None:
        stream.load_state(state)
    return stream


def main() -> None:
    """Read words from standard input as they come."""
    words = (word for line in sys.stdin for word in line.split())
    print(f"{'event':6} {'surprise':>8}  {'now':29} next, and next but one down")
    for seen in watch(words, new_stream()):
        bar = "  ".join(f"{name} {p:4.0%}" for name, p in zip(STATES, seen.belief.tolist(), strict=True))
        ahead = "  ".join(f"{p:4.0%}" for p in seen.forecast[:, STATES.index("down")].tolist())
        print(f"{seen.event:6} {seen.surprise:8.2f}  {bar}  {ahead}", flush=True)


if __name__ == "__main__":
    main()
