import math
from typing import Literal

import pytest

from apelr_cli.shown import Plain
from apelr_cli.typed_values import describe, read_strict, read_text

Size = int | Literal["auto"]


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        (float, "1e-4", 1e-4),
        (float, "1e4", 1e4),
        (float, "3", 3.0),
        (float, ".5", 0.5),
        (float, "inf", math.inf),
        (int, "1e4", 10_000),
        (int, "2.5e1", 25),
        (int, "1_000", 1000),
        (int, "007", 7),
        (int, "-3", -3),
        (int, "1.0", 1),
        (int, str(2**63 - 1), 2**63 - 1),
        (int | None, "~", None),
        (int | None, "1e3", 1000),
        (Size, "auto", "auto"),
        (Size, "1e2", 100),
        (str, "no", "no"),
        (str, "12:30", "12:30"),
        (str, "1e-4", "1e-4"),
        (str, "0o7", "0o7"),
        (str, "", ""),
        (str | None, "null", None),
        (str | None, "", None),
        (str | None, "none", "none"),
        *[(bool, word, True) for word in ("true", "True", "yes", "on", "1", "y")],
        *[(bool, word, False) for word in ("false", "FALSE", "no", "off", "0", "n")],
    ],
)
def test_text_goes_by_the_declared_type(declared, text, value):
    read = read_text(declared, Plain(text))
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number_which_the_rules_refuse():
    assert math.isnan(read_text(float, Plain("nan")))


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (float, "12:30"),
        (float, "off"),
        (float, ""),
        (float, "0x10"),
        (int, "1e-4"),
        (int, "1.5"),
        (int, "0o7"),
        (int, "nan"),
        (int, "inf"),
        (int, "true"),
        (int, "null"),
        (int, str(2**63)),
        (int, "1e99"),
        (int, "9" * 5000),
        (int | None, "none"),
        (bool, "2"),
        (bool, "maybe"),
        (bool, ""),
        (str, "null"),
        (str, "~"),
        (tuple[str, ...], "a"),
        (Literal["a", "b"], "A"),
    ],
)
def test_text_that_does_not_fit_is_refused(declared, text):
    with pytest.raises(ValueError):
        read_text(declared, Plain(text))


def test_quotes_keep_null_a_word():
    assert read_text(str | None, "null") == "null"
    assert read_text(str, "") == ""


def test_lists():
    assert read_text(tuple[str, ...], [Plain("<pad>"), Plain("no")]) == ("<pad>", "no")
    with pytest.raises(ValueError):
        read_text(str, [Plain("a")])
    with pytest.raises(ValueError):
        read_text(tuple[str, ...], [Plain("null")])


def test_plain_values_must_fit_as_they_are():
    assert read_strict(float, 3) == 3.0
    assert read_strict(tuple[str, ...], ["a"]) == ("a",)
    assert read_strict(str | None, None) is None
    for declared, value in [
        (int, "3"),
        (int, True),
        (int, 1.5),
        (bool, 1),
        (str, 3),
        (float, "1e-4"),
        (int, object()),
        (int, 2**63),
    ]:
        with pytest.raises(ValueError):
            read_strict(declared, value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (int, "an integer"),
        (float | None, "a number or null"),
        (bool, "true or false"),
        (str, "text"),
        (Literal["a", "b"], "one of a, b"),
        (Literal["a"], "a"),
        (Size, "an integer or auto"),
        (tuple[str, ...], "a list, each text"),
    ],
)
def test_describe(declared, words):
    assert describe(declared) == words
