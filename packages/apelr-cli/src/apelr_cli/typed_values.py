"""One value by its declared type, through pydantic, and what to say when it does not fit."""

import json
import re
from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from apelr_cli.shown import is_null

__all__ = ["alternatives", "describe", "read_strict", "read_text"]

LARGEST_INTEGER = 2**63 - 1
WHOLE_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?[eE]\+?\d{1,2}")


def read_text(declared: Any, raw: Any) -> Any:
    """Text from YAML as a value of the type `declared`. Raises ValueError when it is none.

    Numbers are decimal (`1e-4`, `1_000`; `1e4` is an integer too, `0o7` is no number), true and false have
    YAML's words in any case (yes, on, 1, no, off, 0), null needs no quotes and a type that allows it.
    """
    resolved = _resolve(declared, raw)
    try:
        return _bounded(_adapter(declared).validate_python(resolved))
    except ValidationError:
        # pydantic has no integers in scientific notation
        if int in alternatives(declared) and isinstance(resolved, str) and WHOLE_NUMBER.fullmatch(resolved):
            number = Decimal(resolved)
            if number == number.to_integral_value():
                return _bounded(int(number))
        raise ValueError("wrong type") from None


def read_strict(declared: Any, raw: Any) -> Any:
    """A value that JSON knows as a value of the type `declared`: nothing is converted but lists to tuples.

    Raises ValueError when it does not fit.
    """
    try:
        return _bounded(_adapter(declared).validate_json(json.dumps(raw), strict=True))
    except TypeError:
        raise ValueError("wrong type") from None


def describe(declared: Any) -> str:
    """The type `declared` in words, as in `must be <words>`."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(describe(each) for each in arguments)
    if origin in (tuple, list):
        return f"a list, each {describe(arguments[0])}"
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    return words.get(declared, "a section")


def alternatives(declared: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type itself."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def _resolve(declared: Any, raw: Any) -> Any:
    """`raw` with unquoted nulls as None; null for text that may not be null is refused, nothing is empty text."""
    if isinstance(raw, list):
        element = (get_args(declared) or (str,))[0]
        return [_resolve(element, each) for each in raw]
    if raw is not None and is_null(raw):
        allowed = alternatives(declared)
        if NoneType in allowed:
            return None
        if raw and str in allowed:
            raise ValueError("null is not text unless it is quoted")
    return str(raw) if isinstance(raw, str) else raw


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError("more than 64 bits")
    return value


@cache
def _adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)
