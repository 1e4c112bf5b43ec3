"""Configs as plain data: what a checkpoint holds of one, and back with every type checked."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from apelr_model.config import ModelConfig
from apelr_model.shown import shown, shown_names

__all__ = ["LARGEST_NUMBER", "MODEL_VERSIONS", "config_from_plain"]

LARGEST_NUMBER = 2**62
"""Whole numbers up to here can be counted with by tensors."""


def _tag(kind: type, name: str) -> str:
    return str(get_args(get_type_hints(kind)[name])[0])


MODEL_VERSIONS: dict[str, type[ModelConfig]] = {_tag(kind, "version"): kind for kind in get_args(ModelConfig)}
"""Every model version and its configuration's class."""


def config_from_plain(kind: type[Any], values: Mapping[str, Any], prefix: str = "") -> Any:
    """The config of class `kind` that `dataclasses.asdict` turned into `values`; missing keys have their defaults.

    Nothing is coerced but whole numbers where the class says float. Raises ValueError naming the key (after `prefix`),
    what it must be and what it is.
    """
    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := set(values) - known:
        raise ValueError(f"{prefix}{shown_names([min(unknown, key=str)])} is no key of {kind.__name__}")
    read = {name: _read(hints[name], value, f"{prefix}{name}") for name, value in values.items()}
    return kind(**read)


def _read(hint: Any, value: Any, key: str) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    forms = [option for option in options if dataclasses.is_dataclass(option)]
    if forms:
        return _read_form(forms, value, key)
    if not any(_fits(option, value) for option in options):
        raise ValueError(f"{key} must be {' or '.join(_in_words(option) for option in options)}, got {shown(value)}")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError(f"{key} must be between -2^62 and 2^62, got {shown(value)}")
    return float(value) if isinstance(value, int) and type(value) not in options else value


def _read_form(forms: list[Any], value: Any, key: str) -> Any:
    """A section with several forms, told apart by `type`."""
    by_type = {_tag(form, "type"): form for form in forms}
    named = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(named, str) or named not in by_type:
        raise ValueError(f"{key} must have a type, one of {', '.join(by_type)}, got {shown(value)}")
    return config_from_plain(by_type[named], value, f"{key}.")


def _fits(option: Any, value: Any) -> bool:
    if option is types.NoneType:
        return value is None
    if get_origin(option) is Literal:
        return isinstance(value, str) and value in get_args(option)
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is option


def _in_words(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(map(repr, get_args(option)))
    return {str: "text", types.NoneType: "null"}.get(option) or str(option.__name__)
