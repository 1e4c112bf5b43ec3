"""YAML whose scalars stay text: the declared type of a field, not YAML, says what `1e-4` or `no` is."""

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from apelr_cli.errors import ConfigError
from apelr_cli.shown import Plain, shown

__all__ = ["parse_yaml"]

LONGEST_TEXT = 1_000_000
"""Characters; a longer text is no configuration."""
ORDINARY_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}

Tree = str | list["Tree"] | dict[str, "Tree"]


class _TextLoader(yaml.BaseLoader):
    """Composes nodes and resolves nothing; an alias is refused, since it can grow without bound."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)


def parse_yaml(text: str, origin: str) -> Tree:
    """The YAML document `text` as dicts, lists and text: `Plain` without quotes, `str` with them.

    An empty document is `Plain("")`. Raises ConfigError, each line beginning with `origin`: one line for a
    syntax error with its place, or one for each duplicate key, key that is no text, and tag.
    """
    if len(text) > LONGEST_TEXT:
        raise ConfigError(f"{origin}: must hold at most {LONGEST_TEXT} characters, got {len(text)}")
    try:
        loader = _TextLoader(text)
        node = loader.get_single_node()
        problems: list[str] = []
        tree: Tree = Plain("") if node is None else _tree(node, "", problems)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{origin}: {_place(error.problem_mark)}{_reason(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not YAML: {_one_line(str(error))}") from error
    except RecursionError:
        raise ConfigError(f"{origin}: nested too deeply") from None
    if problems:
        raise ConfigError("\n".join(f"{origin}: {problem}" for problem in problems))
    return tree


def _tree(node: Node, path: str, problems: list[str]) -> Tree:
    if node.tag not in ORDINARY_TAGS:
        problems.append(f"{_place(node.start_mark)}the tag {_one_line(shown(node.tag))} is not read")
    if isinstance(node, SequenceNode):
        return [_tree(each, f"{path}[{index}]", problems) for index, each in enumerate(node.value)]
    if isinstance(node, MappingNode):
        return _mapping(node, path, problems)
    assert isinstance(node, ScalarNode), "YAML has scalars, sequences and mappings"
    return Plain(node.value) if node.style is None else str(node.value)


def _mapping(node: MappingNode, path: str, problems: list[str]) -> dict[str, Tree]:
    tree: dict[str, Tree] = {}
    first_lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            problems.append(f"{_place(key_node.start_mark)}a key must be one word, got a list or a section")
            continue
        key, line = str(key_node.value), key_node.start_mark.line + 1
        dotted = f"{path}.{key}" if path else key
        if key in first_lines:
            problems.append(f"line {line}: duplicate key {shown(dotted)} (first on line {first_lines[key]})")
            continue
        first_lines[key] = line
        tree[key] = _tree(value_node, dotted, problems)
    return tree


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "


def _reason(error: yaml.MarkedYAMLError) -> str:
    return _one_line(", ".join(part for part in (error.context, error.problem) if part))


def _one_line(text: str) -> str:
    return " ".join(text.split())
