"""Sections with several forms: which one a config means, and whose a foreign key is.

A form is a dataclass. The forms of a section are told apart by a field that is a Literal in each of them
(`version`, `type`); where they have none in common, by the class variable `model_versions` that names the
values of model.version each form belongs to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

__all__ = ["Forms", "field_types"]


@cache
def field_types(form: type) -> dict[str, Any]:
    """The declared type of each field of a dataclass."""
    hints = get_type_hints(form)
    return {field.name: hints[field.name] for field in fields(form)}


class Forms:
    """The forms that one section may take."""

    def __init__(self, forms: Sequence[type]) -> None:
        """`forms` are dataclasses; the first is meant where nothing says which."""
        self.forms = tuple(forms)
        first = field_types(self.forms[0])
        self.key = next((name for name in first if self._tells(name)), None)

    def _tells(self, name: str) -> bool:
        """Whether the field is a Literal in every form, with values of its own in each."""
        if not all(_is_literal(form, name) for form in self.forms):
            return False
        values = [value for form in self.forms for value in get_args(field_types(form)[name])]
        return len(values) == len(set(values))

    def values_of(self, form: type) -> tuple[str, ...]:
        """The values of the telling key that mean `form`."""
        if self.key is not None:
            return get_args(field_types(form)[self.key])
        return tuple(form.model_versions)  # type: ignore[attr-defined]

    def all_values(self) -> tuple[str, ...]:
        """Every value that means one of the forms."""
        return tuple(value for form in self.forms for value in self.values_of(form))

    def choose(self, raw: Mapping[str, Any], model_version: str) -> type | None:
        """The form that a section with the content `raw` means; None when its telling key names none."""
        if self.key is None:
            meant: object = model_version
        elif self.key in raw:
            meant = raw[self.key]
        else:
            return self.forms[0]
        return next((form for form in self.forms if meant in self.values_of(form)), None)

    def owner(self, name: str) -> str | None:
        """The first value of the telling key whose form has a field `name`."""
        return next((self.values_of(form)[0] for form in self.forms if name in field_types(form)), None)


def _is_literal(form: type, name: str) -> bool:
    return get_origin(field_types(form).get(name)) is Literal
