import pytest

from apelr_cli.errors import ConfigError
from apelr_cli.shown import Plain
from apelr_cli.yaml_text import parse_yaml


def test_scalars_stay_text_and_remember_quotes():
    tree = parse_yaml("a: 1e-4\nb: 'no'\nc: [12:30, \"x\\ty\"]\nd: {e: ~}\nf:\n", "f")
    assert tree == {"a": "1e-4", "b": "no", "c": ["12:30", "x\ty"], "d": {"e": "~"}, "f": ""}
    assert [isinstance(tree[key], Plain) for key in "abf"] == [True, False, True]


def test_an_empty_document_is_nothing():
    assert parse_yaml("# only a comment\n", "f") == Plain("")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "f: line 1, column 6: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("a: b: c", "f: line 1, column 5: mapping values are not allowed here"),
        ("a: &x 1\nb: *x", "f: line 2, column 4: aliases (*name) are not read"),
        (
            "a: 1\nb: 2\na: 3\na: 4",
            "f: line 3: duplicate key a (first on line 1)\nf: line 4: duplicate key a (first on line 1)",
        ),
        ("t:\n  lr: 1\n  lr: 2", "f: line 3: duplicate key t.lr (first on line 2)"),
        ("? [a]\n: 1", "f: line 1, column 3: a key must be one word, got a list or a section"),
        (
            "a: !!python/object:os.system 1",
            "f: line 1, column 4: the tag tag:yaml.org,2002:python/object:os.system is not read",
        ),
        ("a: !x [1]", "f: line 1, column 4: the tag !x is not read"),
        (
            "a: 1\n---\nb: 2",
            "f: line 2, column 1: expected a single document in the stream, but found another document",
        ),
        ("[" * 20_000, "f: nested too deeply"),
        ("{a: " * 20_000, "f: nested too deeply"),
        (
            "a: \x00",
            "f: not YAML: unacceptable character #x0000: special characters are not allowed in"
            ' "<unicode string>", position 3',
        ),
        ("#" * 1_000_001, "f: must hold at most 1000000 characters, got 1000001"),
    ],
)
def test_what_is_not_read_is_said_in_one_line_each(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert str(caught.value) == message
