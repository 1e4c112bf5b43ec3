"""YAML and `--set` into a checked `RunConfig`, with every problem reported at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apelr_cli.errors import ConfigError
from apelr_cli.prototype_keys import PROTOTYPE_KEYS
from apelr_cli.run_config import RunConfig
from apelr_cli.shown import is_null, shown
from apelr_cli.typed_reader import TypedReader
from apelr_cli.typed_values import read_strict, read_text
from apelr_cli.yaml_text import Tree, parse_yaml

__all__ = ["ConfigError", "load_run_config", "run_config_from_plain"]


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, lay `key.sub=value` overrides over it (a later one wins), and check everything.

    A value of an override is YAML: `[a, b]` is a list, quotes keep null a word. A section given as
    `{key: value}` is laid over the section key by key. Raises ConfigError with a line for each problem.
    """
    tree = _mapping_of(parse_yaml(_text_of(path), str(path)), path)
    problems = [problem for override in overrides if (problem := _lay_over(tree, override)) is not None]
    return _checked(tree, read_text, problems)


def run_config_from_plain(values: Mapping[str, Any]) -> RunConfig:
    """The config that `to_plain` gave as a dict. Types must fit as they are: text is no number here.

    Raises ConfigError with a line for each problem.
    """
    return _checked(values, read_strict, [])


def _checked(raw: Mapping[str, Any], read_leaf: Any, problems: list[str]) -> RunConfig:
    reader = TypedReader(RunConfig, raw, read_leaf)
    reader.retired = PROTOTYPE_KEYS
    config = reader.read()
    if problems or reader.problems:
        raise ConfigError("\n".join([*problems, *reader.problems]))
    assert isinstance(config, RunConfig), "the reader reads its root class"
    return config


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: must be UTF-8 text, got the byte 0x{error.object[error.start]:02x} at position {error.start}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _mapping_of(tree: Tree, path: Path) -> dict[str, Tree]:
    if is_null(tree):
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must hold sections of keys with values, got {shown(tree)}")
    return tree


def _lay_over(tree: dict[str, Tree], override: str) -> str | None:
    """Put one override into `tree`; what is wrong with it, or None."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(part and part == part.strip() for part in parts):
        return f"--set {shown(override)} must be of the form key.sub=value"
    try:
        value = parse_yaml(text, f"--set {key.strip()}")
    except ConfigError as error:
        return str(error)
    here = tree
    for depth, part in enumerate(parts[:-1], 1):
        below = here.setdefault(part, {})
        if is_null(below):
            below = here[part] = {}
        if not isinstance(below, dict):
            return f"--set {shown(override)}: {'.'.join(parts[:depth])} is no section, it holds {shown(below)}"
        here = below
    _merge(here, parts[-1], value)
    return None


def _merge(section: dict[str, Tree], key: str, value: Tree) -> None:
    old = section.get(key)
    if isinstance(old, dict) and isinstance(value, dict):
        for name, each in value.items():
            _merge(old, name, each)
    else:
        section[key] = value
