"""Objects made of fields that are not certain, so that one mistake hides no other and causes no second line."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field
from typing import Any, Literal, get_args, get_origin

from apelr_cli.typed_values import alternatives

__all__ = ["default_of", "draws", "guesses", "unchecked"]

DRAWS = 200
"""How many fillings of doubtful fields a rule must fail for before it is reported."""


def default_of(field: "Field[Any]") -> Any:
    """The default of a dataclass field, or MISSING."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def guesses(declared: Any, default: Any) -> list[Any]:
    """What a field of the type `declared` might have been meant to be: `default` first, then likely values."""
    found = [] if default is MISSING else [default]
    for each in alternatives(declared):
        likely: dict[Any, list[Any]] = {
            int: [0, 1, 2, 1000, 10**9],
            float: [0.0, 1e-3, 0.5, 1.0, 1e9],
            bool: [False, True],
            str: ["a", ""],
        }
        origin = get_origin(each)
        if origin in (tuple, list):
            found.append(origin())
        found += get_args(each) if origin is Literal else likely.get(each, [])
    return found or [None]


def unchecked(form: type, values: Mapping[str, Any]) -> Any:
    """An object of a frozen dataclass whose rules were not asked."""
    made: Any = object.__new__(form)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def draws(options: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The first option of every field, then random choices where there is a choice."""
    yield {name: values[0] for name, values in options.items()}
    if any(len(values) > 1 for values in options.values()):
        chooser = random.Random(0)
        for _ in range(DRAWS):
            yield {name: chooser.choice(values) for name, values in options.items()}
