import pytest

from apelr_cli.shown import Plain, is_null, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Plain("-1.0"), "-1.0"),
        (Plain("off"), "off"),
        (Plain(""), "nothing"),
        (Plain("null"), "null"),
        ("null", '"null"'),
        ("", '""'),
        ("two words", "two words"),
        (" edge", '" edge"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        (None, "null"),
        (True, "true"),
        (1e-4, "0.0001"),
        (("a", 1), "[a, 1]"),
        ({"a": None}, "{a: null}"),
        (object(), "a object"),
    ],
)
def test_shown_speaks_yaml(value, text):
    assert shown(value) == text


def test_a_long_value_is_cut():
    assert shown("x" * 500) == "x" * 79 + "…"


def test_only_unquoted_words_are_null():
    assert all(map(is_null, [None, Plain("null"), Plain("~"), Plain(""), Plain("NULL")]))
    assert not any(map(is_null, ["null", "", Plain("none"), 0]))
