"""What a file holds, in a line of a message."""

import pytest

from apelr_model.shown import LONGEST, one_line, shown, shown_names


@pytest.mark.parametrize(("value", "text"), [("big", "'big'"), (2.5, "2.5"), (None, "None"), ("a\nb", r"'a\nb'")])
def test_small_values_are_shown_as_they_are(value, text):
    assert shown(value) == text


@pytest.mark.parametrize("value", ["x" * 10**6, 10**600, -(10**600), list(range(10**5)), {1: "y" * 10**6}])
def test_large_values_are_cut(value):
    assert len(shown(value)) <= LONGEST


def test_a_list_that_is_shared_a_million_million_times_costs_nothing():
    value = []
    for _ in range(40):
        value = [value, value]
    assert len(shown(value)) <= LONGEST


def test_a_list_that_holds_itself():
    value = []
    value.append(value)
    assert len(shown(value)) <= LONGEST


def test_names_are_sorted_printable_and_counted_from_the_ninth_on():
    assert shown_names(["b", "a\n", 3]) == r"'a\n', 3, b"
    assert shown_names(f"n{i}" for i in range(9)) == "n0, n1, n2, n3, n4, n5, n6, n7 and 1 more"
    assert len(shown_names(["x" * 10**6])) == LONGEST


def test_the_first_line_of_a_message():
    assert one_line("\n  a reason\nand much advice") == "a reason"
    assert one_line("a\x14b") == r"'a\x14b'"
    assert len(one_line("x" * 10**6)) == 200
    assert one_line("\n") == ""
