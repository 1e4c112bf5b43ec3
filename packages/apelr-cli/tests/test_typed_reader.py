from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from apelr_cli.shown import Plain
from apelr_cli.typed_reader import TypedReader
from apelr_cli.typed_values import read_text
from apelr_cli.yaml_text import parse_yaml


class Ruled:
    def rules(self):
        return []

    def __post_init__(self):
        broken = [f"{name} must be {rule}, got {value!r}" for name, value, rule, holds in self.rules() if not holds]
        if broken:
            raise ValueError("\n".join(broken))


@dataclass(frozen=True, kw_only=True)
class Gru(Ruled):
    type: Literal["gru"] = "gru"
    width: int = 8


@dataclass(frozen=True, kw_only=True)
class Transformer(Ruled):
    type: Literal["transformer"] = "transformer"
    width: int = 8
    heads: int = 2

    def rules(self):
        return [("width", self.width, f"a multiple of heads ({self.heads})", self.width % max(1, self.heads) == 0)]


@dataclass(frozen=True, kw_only=True)
class First:
    version: Literal["first"] = "first"
    states: int = 2
    executor: Gru | Transformer = field(default_factory=Gru)


@dataclass(frozen=True, kw_only=True)
class Second:
    version: Literal["second"] = "second"
    states: int = 2
    experts: int = 4


@dataclass(frozen=True, kw_only=True)
class Weights:
    balance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainFirst:
    model_versions: ClassVar[tuple[str, ...]] = ("first",)
    steps: int = 1
    entropy: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainSecond:
    model_versions: ClassVar[tuple[str, ...]] = ("second",)
    steps: int = 1
    loss_weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True, kw_only=True)
class Source(Ruled):
    source: str
    weight: float = 1.0

    def rules(self):
        return [("weight", self.weight, "> 0", self.weight > 0)]


@dataclass(frozen=True, kw_only=True)
class Root(Ruled):
    model: First | Second = field(default_factory=First)
    train: TrainFirst | TrainSecond = field(default_factory=TrainFirst)
    sources: tuple[Source, ...] = ()
    cache: Gru | None = None
    limit: int = 100
    mode: Literal["short", "long"] = "short"

    def rules(self):
        return [
            ("train.steps", self.train.steps, f"<= limit ({self.limit})", self.train.steps <= self.limit),
            (
                "limit",
                self.limit,
                "<= 50 when mode is short",
                self.limit <= 50 or self.mode == "long" or self.limit == 100,
            ),
        ]


def read(text):
    tree = parse_yaml(text, "f")
    reader = TypedReader(Root, {} if tree == "" else tree, read_text)
    return reader.read(), reader.problems


def problems(text):
    return read(text)[1]


def test_nothing_gives_the_defaults():
    assert read("") == (Root(), [])


def test_forms_lists_and_sections_in_sections():
    config, found = read(
        "model: {executor: {type: transformer, width: 6, heads: 3}}\n"
        "sources: [{source: a}, {source: b, weight: 1e-1}]\ncache: {width: 3}\ntrain:\n"
    )
    assert found == []
    assert config == Root(
        model=First(executor=Transformer(width=6, heads=3)),
        sources=(Source(source="a"), Source(source="b", weight=0.1)),
        cache=Gru(width=3),
    )


def test_the_model_version_chooses_the_forms_of_other_sections():
    config, found = read("model: {version: second, experts: 3}\ntrain: {loss_weights: {balance: 2}}\n")
    assert found == []
    assert config == Root(model=Second(experts=3), train=TrainSecond(loss_weights=Weights(balance=2.0)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {experts: 3}", ["model.experts belongs to model.version second, not first"]),
        ("model: {version: second, executor: {}}", ["model.executor belongs to model.version first, not second"]),
        (
            "model: {version: second}\ntrain: {entropy: 1}",
            ["train.entropy belongs to model.version first, not second"],
        ),
        (
            "model: {executor: {heads: 3}}",
            ["model.executor.heads belongs to model.executor.type transformer, not gru"],
        ),
        (
            "model: {version: third, experts: x, colour: 1}",
            ["model.version must be one of first, second, got third", "unknown key model.colour"],
        ),
        ("model: 3", ["model must be a section of keys with values, got 3"]),
        ("train: [a]", ["train must be a section of keys with values, got [a]"]),
        ("sources: [{weight: 1}]", ["sources[0].source is missing; it must be text"]),
        (
            "sources: [{source: a}, {source: b, weight: -1, wait: 3}]",
            ["unknown key sources[1].wait", "sources[1].weight must be > 0, got -1"],
        ),
        ("sources: 3", ["sources must be a list, each a section, got 3"]),
        ("sources: {source: a}", ["sources must be a list, each a section, got {source: a}"]),
        ("sources: [{source: a}, b]", ["sources[1] must be a section of keys with values, got b"]),
        ("weight: 3", ["unknown key weight; did you mean sources[0].weight?"]),
        (
            "model: {executor: {type: transformer, heads: 3}}",
            ["model.executor.width must be a multiple of heads (3), got 8"],
        ),
        ("train: {balance: 3}", ["unknown key train.balance; did you mean train.loss_weights.balance?"]),
        ("step: 3", ["unknown key step"]),
        ("cache: ~\nmode: shirt", ["mode must be one of short, long, got shirt; did you mean short?"]),
    ],
)
def test_problems(text, expected):
    assert problems(text) == expected


def test_a_rule_is_not_reported_when_it_depends_on_a_mistake():
    assert problems("limit: abc\ntrain: {steps: 200}") == ["limit must be an integer, got abc"]
    assert problems("limit: 70\nmode: lang") == ["mode must be one of short, long, got lang; did you mean long?"]
    assert problems("model: {executor: {type: transformer, heads: x, width: 7}}") == [
        "model.executor.heads must be an integer, got x"
    ]


def test_a_rule_is_reported_beside_a_mistake_that_does_not_matter():
    assert problems("limit: 20\nmode: lang\ntrain: {steps: 2e2, entropy: x}") == [
        "train.entropy must be a number, got x",
        "mode must be one of short, long, got lang; did you mean long?",
        "train.steps must be <= limit (20), got 2e2",
    ]


def test_a_broken_rule_causes_no_second_line_in_the_section_above():
    assert problems("sources: [{source: a, weight: 0}]\nlimit: 1") == ["sources[0].weight must be > 0, got 0"]


def test_an_error_that_is_in_no_rule_is_kept():
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        value: int = 0

        def __post_init__(self):
            if self.value:
                raise ValueError("value is odd here")

    reader = TypedReader(Odd, {"value": Plain("1")}, read_text)
    reader.read()
    assert reader.problems == ["value is odd here"]
