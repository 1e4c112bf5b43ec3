"""Reads a tree of raw values into nested dataclasses and collects every problem on the way."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin

from apelr_cli.doubt import default_of, draws, guesses, unchecked
from apelr_cli.near_names import did_you_mean, nearest_name
from apelr_cli.shown import is_null, shown
from apelr_cli.typed_values import alternatives, describe
from apelr_cli.variants import Forms, field_types

__all__ = ["TypedReader"]

Path = tuple[str, ...]


class TypedReader:
    """Reads one tree. `problems` grows by a line for everything that is wrong, in the order of the fields.

    Every method that reads returns the possible values: one when it is certain; many, the default among them,
    when what was given cannot be used. A rule is reported only when it is broken for all of them, so that one
    mistake never causes a second line.
    """

    def __init__(self, root: type, raw: Mapping[str, Any], read_leaf: Callable[[Any, Any], Any]) -> None:
        """`read_leaf(declared type, raw)` gives a value or raises ValueError."""
        self.root, self.raw, self.read_leaf = root, raw, read_leaf
        self.problems: list[str] = []
        self.retired: Mapping[str, str] = {}
        """Keys that once were, and what to do instead."""

    def read(self) -> Any:
        """The root object; meaningless when `problems` is not empty."""
        return self._section(self.root, self.raw, (), {})[0]

    def _value(self, declared: Any, raw: Any, path: Path, default: Any) -> list[Any]:
        forms = [each for each in alternatives(declared) if isinstance(each, type) and is_dataclass(each)]
        if forms:
            if type(None) in alternatives(declared) and is_null(raw):
                return [None]
            if isinstance(raw, Mapping) or is_null(raw):
                return self._forms(forms, raw if isinstance(raw, Mapping) else {}, path)
            self.problems.append(f"{_dotted(path)} must be a section of keys with values, got {shown(raw)}")
            before = len(self.problems)
            read = self._forms(forms, {}, path)
            del self.problems[before:]
            return read
        if get_origin(declared) in (tuple, list) and is_dataclass(get_args(declared)[0]) and isinstance(raw, list):
            element = get_args(declared)[0]
            read = [self._value(element, each, (*path, f"[{i}]"), MISSING)[0] for i, each in enumerate(raw)]
            return [tuple(read) if get_origin(declared) is tuple else read]
        try:
            return [self.read_leaf(declared, raw)]
        except ValueError:
            choices = [str(each) for each in get_args(declared)] if describe(declared).startswith("one of") else []
            hint = did_you_mean(raw, choices) if isinstance(raw, str) else ""
            self.problems.append(f"{_dotted(path)} must be {describe(declared)}, got {shown(raw)}{hint}")
            return guesses(declared, default)

    def _forms(self, forms: list[type], raw: Mapping[str, Any], path: Path) -> list[Any]:
        return self._form(Forms(forms), raw, path) if len(forms) > 1 else self._section(forms[0], raw, path, {})

    def _form(self, forms: Forms, raw: Mapping[str, Any], path: Path) -> list[Any]:
        form = forms.choose(raw, self._model_version())
        if form is None:
            # Which form is meant is unknown, so only what fits none of them is said beside that.
            if forms.key is not None:
                known = ", ".join(forms.all_values())
                self.problems.append(
                    f"{_dotted((*path, forms.key))} must be one of {known}, got {shown(raw[forms.key])}"
                )
            return self._section(forms.forms[0], {name: raw[name] for name in raw if not forms.owner(name)}, path, {})
        key = "model.version" if forms.key is None else _dotted((*path, forms.key))
        owners = {
            name: f"{key} {forms.owner(name)}, not {forms.values_of(form)[0]}"
            for name in raw
            if name not in field_types(form) and forms.owner(name)
        }
        return self._section(form, raw, path, owners)

    def _section(self, form: type, raw: Mapping[str, Any], path: Path, owners: Mapping[str, str]) -> list[Any]:
        before = len(self.problems)
        types = field_types(form)
        for name in raw:
            if name not in types:
                self._unknown(str(name), list(types), path, owners)
        options: dict[str, list[Any]] = {}
        for each in fields(form):
            default = default_of(each)
            if each.name in raw or _follows_the_model(types[each.name]):
                given = raw.get(each.name, {})
                options[each.name] = self._value(types[each.name], given, (*path, each.name), default)
            elif default is not MISSING:
                options[each.name] = [default]
            else:
                self.problems.append(
                    f"{_dotted((*path, each.name))} is missing; it must be {describe(types[each.name])}"
                )
                options[each.name] = guesses(types[each.name], default)
        for name in self._broken_rules([unchecked(form, draw) for draw in draws(options)], path):
            if name in options:
                options[name] = guesses(types[name], MISSING)
        if len(self.problems) > before:
            return [unchecked(form, draw) for draw in draws(options)]
        try:
            return [form(**{name: values[0] for name, values in options.items()})]
        except ValueError as error:
            self.problems += [_dotted((*path, line)) for line in str(error).splitlines()]
            return [unchecked(form, draw) for draw in draws(options)]

    def _broken_rules(self, candidates: list[Any], path: Path) -> set[str]:
        if not hasattr(candidates[0], "rules"):
            return set()
        broken = [
            [(name, value, rule) for name, value, rule, holds in each.rules() if not holds] for each in candidates
        ]
        certain = set.intersection(*[{name for name, _, _ in each} for each in broken])
        for name, value, rule in broken[0]:
            if name in certain:
                raw = self._given((*path, *name.split(".")))
                self.problems.append(
                    f"{_dotted((*path, name))} must be {rule}, got {shown(value if raw is None else raw)}"
                )
        return certain

    def _unknown(self, name: str, siblings: list[str], path: Path, owners: Mapping[str, str]) -> None:
        dotted = _dotted((*path, name))
        if dotted in self.retired:
            self.problems.append(f"{dotted} is a key of the prototype: {self.retired[dotted]}")
            return
        if name in owners:
            self.problems.append(f"{dotted} belongs to {owners[name]}")
            return
        everywhere = list(_all_keys(self.root))
        elsewhere = [key for key in everywhere if key.rpartition(".")[2] == name]
        near = nearest_name(name, siblings)
        meant = elsewhere[0] if elsewhere else _dotted((*path, near)) if near else None
        self.problems.append(f"unknown key {shown(dotted)}" + (f"; did you mean {meant}?" if meant else ""))

    def _given(self, path: Path) -> Any:
        """The raw value at `path`, or None when the default stands there."""
        here: Any = self.raw
        for part in path:
            if isinstance(here, list) and part.startswith("["):
                here = here[int(part[1:-1])]
            elif isinstance(here, Mapping) and part in here:
                here = here[part]
            else:
                return None
        return here

    def _model_version(self) -> str:
        given = self._given(("model", "version"))
        if given is not None:
            return str(given)
        model = next((default_of(each) for each in fields(self.root) if each.name == "model"), None)
        return str(getattr(model, "version", ""))


def _follows_the_model(declared: Any) -> bool:
    """Whether a section takes its form from model.version, also where nothing of it is given."""
    forms = [each for each in alternatives(declared) if isinstance(each, type) and is_dataclass(each)]
    return len(forms) > 1 and Forms(forms).key is None


def _all_keys(form: type, prefix: str = "") -> Iterator[str]:
    for name, declared in field_types(form).items():
        yield prefix + name
        for each in alternatives(declared):
            if is_dataclass(each):
                yield from _all_keys(each, f"{prefix}{name}.")  # type: ignore[arg-type]
            elif get_origin(each) in (tuple, list) and is_dataclass(get_args(each)[0]):
                yield from _all_keys(get_args(each)[0], f"{prefix}{name}[0].")


def _dotted(path: Path) -> str:
    return ".".join(path).replace(".[", "[")
