"""YAML and `--set` into a checked `RunConfig`, with every problem reported at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apelr_cli.config_tree import read_tree, tree_of
from apelr_cli.errors import ConfigError
from apelr_cli.prototype_keys import PROTOTYPE_KEYS
from apelr_cli.run_config import RunConfig, to_yaml
from apelr_cli.typed_reader import TypedReader
from apelr_cli.typed_values import read_strict, read_text

__all__ = ["ConfigError", "load_run_config", "override_run_config", "run_config_from_plain"]


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, lay `key.sub=value` overrides over it (a later one wins), and check everything.

    A value of an override is YAML: `[a, b]` is a list, quotes keep null a word. A section given as
    `{key: value}` is laid over the section key by key. Raises ConfigError with a line for each problem.
    """
    return _checked(*read_tree(path, overrides))


def run_config_from_plain(values: Mapping[str, Any]) -> RunConfig:
    """The config that `to_plain` gave as a dict. Types must fit as they are: text is no number here.

    Raises ConfigError with a line for each problem.
    """
    return _checked(values, [], read_strict)


def override_run_config(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """`config` with `key.sub=value` overrides laid over it. Raises ConfigError with a line for each problem."""
    return _checked(*tree_of(to_yaml(config), "the config", overrides))


def _checked(raw: Mapping[str, Any], problems: list[str], read_leaf: Any = read_text) -> RunConfig:
    reader = TypedReader(RunConfig, raw, read_leaf)
    reader.retired = PROTOTYPE_KEYS
    config = reader.read()
    if problems or reader.problems:
        raise ConfigError("\n".join([*problems, *reader.problems]))
    assert isinstance(config, RunConfig), "the reader reads its root class"
    return config
