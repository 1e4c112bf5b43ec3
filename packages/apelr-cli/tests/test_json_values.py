import json
import math
from typing import NamedTuple

import pytest

from apelr_cli.json_values import as_json


class Float(float):
    """A kind of float, as numpy's are."""


class Pair(NamedTuple):
    """A tuple whose entries have names."""

    first: float
    second: object


@pytest.mark.parametrize("value", [None, True, 3, "é", 0.5, [1, "a"], {"a": [None, {"b": 1.5}]}])
def test_what_json_has_stays(value: object) -> None:
    assert as_json(value) == value
    assert json.loads(json.dumps(as_json(value), allow_nan=False)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Float("nan")])
def test_numbers_that_are_not_finite_are_null_at_any_depth(value: float) -> None:
    assert as_json(value) is None
    assert as_json({"a": [(1.0, value)], "b": value}) == {"a": [[1.0, None]], "b": None}


def test_tuples_are_lists_and_keys_text() -> None:
    assert as_json({1: (2, (3,))}) == {"1": [2, [3]]}
    assert type(as_json(Float(1.5))) is float


def test_tuples_with_names_are_objects_at_any_depth() -> None:
    found = as_json([Pair(1.0, (Pair(math.inf, None), 2))])
    assert found == [{"first": 1.0, "second": [{"first": None, "second": None}, 2]}]
