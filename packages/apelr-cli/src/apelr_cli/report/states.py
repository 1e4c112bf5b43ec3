"""Plan states as cards: how much each is used, what it says, what follows it, and what it writes when forced."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from apelr_cli.loading import LoadedModel
from apelr_cli.plan_choice import has_chain
from apelr_cli.sentence_beats import count_beats
from apelr_data import BEATS
from apelr_model import SamplingSettings, generate

__all__ = ["Following", "Match", "StateCard", "Word", "plan_title", "state_cards", "write_under_states"]

WRITING_STATES = 16
"""States that write texts, the most used ones."""
TEXTS, TOKENS = 2, 48
"""Texts of each, and their most tokens."""
TEMPERATURE = 0.8
"""Of the tokens, as in a run's previews."""
FOLLOWING = 3
"""Successors that a card names."""
IDLE = 0.1
"""Of an even share, 1 / K: a state that is used less is called idle."""


class Word(NamedTuple):
    """A token that a state raises."""

    text: str
    lift: float
    """How many times as likely as in the mixture."""


class Following(NamedTuple):
    """A plan state that may come next."""

    state: int
    probability: float


class Match(NamedTuple):
    """The known plan that a state is matched with."""

    name: str
    share: float
    """Of the chunks in which the state is the most likely one."""

    @property
    def is_clear(self) -> bool:
        """Whether most of these chunks are of that plan, so that the state can be called by its name."""
        return self.share >= 0.5


class StateCard(NamedTuple):
    """One plan state."""

    number: int
    usage: float
    idle: bool
    stays: float | None
    """Probability that the next chunk has it again."""
    long_run: float | None
    """Share of chunks in the long run, by the transition matrix alone."""
    forced_nll: float | None
    """NLL with every token from it alone, nats per token; None where that is infinite."""
    words: tuple[Word, ...]
    following: tuple[Following, ...]
    match: Match | None
    texts: tuple[str, ...] = ()
    """Written with it forced from the beginning."""
    beats: tuple[tuple[str, int], ...] = ()
    """Storyworld's beats of the sentences of those, the most frequent first."""


def state_cards(planner: Mapping[str, Any]) -> tuple[StateCard, ...]:
    """The states of a planner report (`planner_eval.json`), the most used first."""
    states = planner.get("states") or ()
    recovery = planner.get("recovery")
    cards = [_card(state, len(states), recovery) for state in states]
    return tuple(sorted(cards, key=lambda card: -card.usage))


def _card(state: Mapping[str, Any], count: int, recovery: Mapping[str, Any] | None) -> StateCard:
    number, row = state["state"], state.get("transition") or ()
    others = sorted((k for k in range(len(row)) if k != number), key=lambda k: -row[k])
    return StateCard(
        number,
        state["usage"],
        state["usage"] < IDLE / count,
        row[number] if row else None,
        state.get("stationary"),
        state["forced_nll"],
        tuple(Word(each["text"] or f"id {each['id']}", each["lift"]) for each in state["tokens"]),
        tuple(Following(k, row[k]) for k in others[:FOLLOWING]),
        _match(number, recovery),
    )


def plan_title(name: str) -> str:
    """What a known plan is called: its name, or `plan 3` where that is a number, as are the names of states."""
    return f"plan {name}" if name.isdigit() else name


def _match(number: int, recovery: Mapping[str, Any] | None) -> Match | None:
    if recovery is None:
        return None
    agreement = recovery["filtered"]
    label, chunks = agreement["matching"][number], agreement["table"][number]
    if label < 0 or not chunks[label]:
        return None
    return Match(plan_title(recovery["plans"][label]), chunks[label] / sum(chunks))


def write_under_states(
    loaded: LoadedModel, cards: Sequence[StateCard], *, seed: int, beats: bool
) -> tuple[StateCard, ...]:
    """The cards with texts written under the most used states; with `beats` their sentences are told apart."""
    writing = {card.number for card in cards[:WRITING_STATES]} if has_chain(loaded.model) else set()
    return tuple(_written(loaded, card, seed, beats) if card.number in writing else card for card in cards)


def _written(loaded: LoadedModel, card: StateCard, seed: int, beats: bool) -> StateCard:
    model, tokenizer = loaded.model, loaded.tokenizer
    made: list[list[int]] = [[] for _ in range(TEXTS)]
    for token in generate(
        model,
        [[tokenizer.bos_id]] * TEXTS,
        SamplingSettings(temperature=TEMPERATURE),
        max_new_tokens=TOKENS,
        seeds=range(seed, seed + TEXTS),
        eos_id=tokenizer.eos_id,
        policy=replace(model.policy, force_state=card.number),
    ):
        made[token.row].append(token.id)
    ended = [ids[-1] == tokenizer.eos_id for ids in made]
    texts = tuple(tokenizer.decode(ids).strip() for ids in made)
    named: tuple[tuple[str, int], ...] = ()
    if beats:
        counted = count_beats(texts, complete=ended)
        pairs = sorted(zip(BEATS, counted.beats, strict=True), key=lambda pair: -pair[1])
        named = tuple((name, count) for name, count in pairs if count)[:FOLLOWING]
    shown = tuple(text if whole else f"{text} …" for text, whole in zip(texts, ended, strict=True) if text)
    return card._replace(texts=shown, beats=named)
