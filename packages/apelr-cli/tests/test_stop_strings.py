from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_cli.stop_strings import StopStrings


def cut(text: str, stops: Sequence[str]) -> str | None:
    """What stands before the stop string that is complete first (the longest such); None without one."""
    for end in range(1, len(text) + 1):
        ending_here = [stop for stop in stops if text[:end].endswith(stop)]
        if ending_here:
            return text[: end - max(map(len, ending_here))]
    return None


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=4), max_size=8), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_the_text_before_the_stop_is_passed_on_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    guard = StopStrings(stops)
    passed = "".join([guard.push(piece) for piece in pieces])
    passed += guard.finish()
    before = cut("".join(pieces), stops)
    assert passed == ("".join(pieces) if before is None else before)
    assert guard.stopped == (before is not None)


@settings(deadline=None)
@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_exactly_what_may_become_a_stop_is_held_back(text: str, stops: list[str]) -> None:
    guard = StopStrings(stops)
    passed = ""
    for end, character in enumerate(text, start=1):
        passed += guard.push(character)
        if guard.stopped:
            break
        held = text[len(passed) : end]
        assert not held or any(stop.startswith(held) for stop in stops)
        longer = [text[start:end] for start in range(len(passed))]
        assert not any(stop.startswith(part) for stop in stops for part in longer)


def test_nothing_is_held_back_without_stop_strings() -> None:
    guard = StopStrings([])
    assert guard.push("abc") == "abc"


def test_nothing_passes_after_a_stop() -> None:
    guard = StopStrings(["."])
    assert guard.push("one. two") == "one"
    assert guard.push("three") + guard.finish() == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        StopStrings(["a", ""])
