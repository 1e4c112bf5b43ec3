"""A YAML file with `--set` overrides laid over it, as a tree of raw values that nothing has checked yet."""

from collections.abc import Sequence
from pathlib import Path

from apelr_cli.errors import ConfigError
from apelr_cli.shown import is_null, shown
from apelr_cli.yaml_text import Tree, parse_yaml

__all__ = ["read_tree", "tree_of"]


def read_tree(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Tree], list[str]]:
    """The file's sections with every override that can be read, and a line for each that cannot.

    Raises ConfigError where the file itself cannot be read.
    """
    return tree_of(_text_of(path), str(path), overrides)


def tree_of(text: str, origin: str, overrides: Sequence[str]) -> tuple[dict[str, Tree], list[str]]:
    """The same of a YAML text, which messages call `origin`."""
    tree = _mapping_of(parse_yaml(text, origin), origin)
    return tree, [problem for override in overrides if (problem := _lay_over(tree, override)) is not None]


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: must be UTF-8 text, got the byte 0x{error.object[error.start]:02x} at position {error.start}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _mapping_of(tree: Tree, origin: str) -> dict[str, Tree]:
    if is_null(tree):
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{origin}: must hold sections of keys with values, got {shown(tree)}")
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
