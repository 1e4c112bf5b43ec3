from collections.abc import Callable
from pathlib import Path
from typing import Any

from apelr_cli.loading import load_model
from apelr_cli.report.run_files import read_run_files
from apelr_cli.report.states import plan_title, state_cards, write_under_states


def state(number: int, usage: float, row: list[float]) -> dict[str, Any]:
    words = [{"id": 7, "lift": 2.0, "text": ""}, {"id": 8, "lift": 1.5, "text": " a"}]
    return {"state": number, "usage": usage, "transition": row, "stationary": 0.5, "forced_nll": None, "tokens": words}


def test_cards_are_sorted_by_usage_and_name_the_known_plan() -> None:
    rows = [[0.9, 0.02, 0.08], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    states = [state(k, usage, row) for k, (usage, row) in enumerate(zip((0.2, 0.79, 0.01), rows, strict=True))]
    agreement = {"matching": [1, 0, -1], "table": [[1, 3], [0, 5], [0, 0]]}
    cards = state_cards({"states": states, "recovery": {"plans": ["opening", "turn"], "filtered": agreement}})
    assert [card.number for card in cards] == [1, 0, 2]
    first = cards[1]
    assert [(each.state, each.probability) for each in first.following] == [(2, 0.08), (1, 0.02)]
    assert first.match == ("turn", 0.75)
    assert first.match is not None
    assert first.match.is_clear
    assert cards[0].match is None, "none of its chunks is of that plan"
    assert [word.text for word in first.words] == ["id 7", " a"]
    assert [card.idle for card in cards] == [False, False, True]
    assert state_cards({}) == ()
    assert (plan_title("opening"), plan_title("3")) == ("opening", "plan 3")


def test_states_write_what_they_say_when_forced(run_of: Callable[..., Path]) -> None:
    loaded = load_model(run_of(), "cpu")
    cards = state_cards(read_run_files(run_of()).planner)
    written = write_under_states(loaded, cards, seed=0, beats=True)
    assert all(card.texts for card in written)
    assert written == write_under_states(loaded, cards, seed=0, beats=True)
    assert written != write_under_states(loaded, cards, seed=5, beats=True)
    assert len({card.texts for card in written}) == len(written)


def test_only_the_most_used_states_write(run_of: Callable[..., Path]) -> None:
    run = run_of("v1_filtered_mixture")
    written = write_under_states(load_model(run, "cpu"), state_cards(read_run_files(run).planner), seed=0, beats=False)
    assert [bool(card.texts) for card in written] == [True] * 16 + [False] * 24
