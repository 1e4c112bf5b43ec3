"""The one error of configs names every broken rule on its own line."""

import pytest

from apelr_model.rules import check_rules


def test_only_broken_rules_are_named_one_line_each():
    check_rules([("a", 1, ">= 1", True)])
    with pytest.raises(ValueError) as raised:
        check_rules([("a", 1, ">= 1", True), ("b", "x", "a number", False), ("c", None, "text", False)])
    assert str(raised.value) == "b must be a number, got 'x'\nc must be text, got None"
