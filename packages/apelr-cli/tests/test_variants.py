from dataclasses import dataclass
from typing import Literal

import pytest

from apelr_cli.prototype_keys import PROTOTYPE_KEYS
from apelr_cli.run_config import RunConfig
from apelr_cli.train_config import ControlTrainConfig, V1TrainConfig, V2TrainConfig
from apelr_cli.typed_reader import TypedReader
from apelr_cli.variants import Forms, field_types


@pytest.mark.parametrize("dotted", PROTOTYPE_KEYS)
def test_a_retired_key_is_no_key_of_ours_and_is_told_what_to_do(dotted):
    section, _, name = dotted.partition(".")
    reader = TypedReader(RunConfig, {section: {name: 1}}, lambda declared, value: value)
    reader.retired = PROTOTYPE_KEYS
    reader.read()
    assert reader.problems == [f"{dotted} is a key of the prototype: {PROTOTYPE_KEYS[dotted]}"]


@dataclass(frozen=True, kw_only=True)
class Square:
    shape: Literal["square"] = "square"
    unit: Literal["cm", "mm"] = "cm"


@dataclass(frozen=True, kw_only=True)
class Circle:
    unit: Literal["cm", "mm"] = "cm"
    shape: Literal["circle"] = "circle"


def test_forms_are_told_apart_by_a_literal_with_values_of_its_own():
    forms = Forms([Circle, Square])
    assert forms.key == "shape"
    assert forms.choose({"shape": "square"}, "") is Square
    assert forms.choose({"shape": "line"}, "") is None


@pytest.mark.parametrize(
    ("version", "form"),
    [
        ("v2_planner_required", V2TrainConfig),
        ("v1_filtered_mixture", V1TrainConfig),
        ("transformer_lm", ControlTrainConfig),
        ("mixture_of_softmaxes", ControlTrainConfig),
    ],
)
def test_the_train_section_has_the_form_of_the_model_version(version, form):
    forms = Forms([V2TrainConfig, V1TrainConfig, ControlTrainConfig])
    assert forms.key is None  # lr_schedule is a Literal in all, the same in all
    assert forms.choose({}, version) is form
    assert {"lr", "seq_len"} < set(field_types(form))
