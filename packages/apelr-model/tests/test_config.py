"""Model configurations: every rule has its message (field, rule, value), defaults hold, nothing changes later."""

import dataclasses
import math
import types
from typing import Union, get_args, get_origin, get_type_hints

import pytest

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    OptimConfig,
    PlanPolicy,
    SamplingSettings,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
)
from apelr_model.executor_config import GRUConfig, TransformerConfig

NAN = math.nan

BROKEN = [
    (V1Config, "num_plan_states", 0, ">= 1"),
    (V1Config, "chunk_size", 0, ">= 1"),
    (V1Config, "token_dim", -1, ">= 1"),
    (V1Config, "hidden_dim", 0, ">= 1"),
    (V1Config, "fusion_dim", 0, ">= 1"),
    (V1Config, "num_layers", 0, ">= 1"),
    (V1Config, "dropout", 1.0, ">= 0 and < 1"),
    (V1Config, "dropout", -0.1, ">= 0 and < 1"),
    (V1Config, "dropout", NAN, ">= 0 and < 1"),
    (V1Config, "planner_context_scale", -1.0, "a finite number >= 0"),
    (V1Config, "planner_context_scale", NAN, "a finite number >= 0"),
    (V1Config, "planner_context_scale", math.inf, "a finite number >= 0"),
    (V1Config, "planner_self_bias", math.inf, "a finite number"),
    (V1Config, "planner_self_bias", NAN, "a finite number"),
    (V2Config, "num_plan_states", 0, ">= 1"),
    (V2Config, "chunk_size", 0, ">= 1"),
    (V2Config, "hidden_dim", 0, ">= 1"),
    (V2Config, "num_experts", 3, "null or num_plan_states (8)"),
    (V2Config, "future_horizon_chunks", -1, ">= 0"),
    (V2Config, "planner_temperature", 0.0, "between 1e-28 and 1e+28"),
    (V2Config, "planner_temperature", 1e-320, "between 1e-28 and 1e+28"),
    (V2Config, "planner_temperature", 1e39, "between 1e-28 and 1e+28"),
    (V2Config, "planner_temperature", NAN, "between 1e-28 and 1e+28"),
    (V2Config, "planner_temperature", math.inf, "between 1e-28 and 1e+28"),
    (V2Config, "lookahead_horizon", 0, "between 1 and 2^62"),
    (V2Config, "lookahead_horizon", 2**62 + 1, "between 1 and 2^62"),
    (V2Config, "lookahead_feedback_scale", 1.1, "between 0 and 1"),
    (V2Config, "lookahead_feedback_scale", -0.1, "between 0 and 1"),
    (V2Config, "lookahead_feedback_scale", NAN, "between 0 and 1"),
    (V2Config, "commitment_warmup_steps", -1, ">= 0"),
    (V2Config, "commitment_ramp_steps", -1, ">= 0"),
    (V2Config, "commitment_max_hard_fraction", 1.5, "between 0 and 1"),
    (V2Config, "commitment_max_hard_fraction", NAN, "between 0 and 1"),
    (TransformerLMConfig, "hidden_dim", 0, ">= 1"),
    (TransformerLMConfig, "dropout", NAN, ">= 0 and < 1"),
    (TransformerLMConfig, "tie_embeddings", True, "false unless hidden_dim (256) is token_dim (128)"),
    (V1Config, "tie_embeddings", True, "false unless fusion_dim (256) is token_dim (128)"),
    (MixtureOfSoftmaxesConfig, "num_plan_states", 0, ">= 1"),
    (MixtureOfSoftmaxesConfig, "num_layers", 0, ">= 1"),
    (SamplingSettings, "temperature", -0.5, ">= 0 and finite"),
    (SamplingSettings, "temperature", NAN, ">= 0 and finite"),
    (SamplingSettings, "temperature", math.inf, ">= 0 and finite"),
    (SamplingSettings, "top_k", -1, ">= 0"),
    (SamplingSettings, "top_p", 0.0, "> 0 and <= 1"),
    (SamplingSettings, "top_p", 1.1, "> 0 and <= 1"),
    (SamplingSettings, "top_p", NAN, "> 0 and <= 1"),
    (SamplingSettings, "repetition_penalty", 0.9, ">= 1 and finite"),
    (SamplingSettings, "repetition_penalty", NAN, ">= 1 and finite"),
    (SamplingSettings, "no_repeat_ngram_size", -1, ">= 0"),
]
MODELS = [V1Config, V2Config, TransformerLMConfig, MixtureOfSoftmaxesConfig]
CONFIGS = [*MODELS, V1LossWeights, V2LossWeights, OptimConfig, PlanPolicy, SamplingSettings]


@pytest.mark.parametrize(("config", "field", "value", "rule"), BROKEN)
def test_a_broken_rule_names_field_rule_and_value(config, field, value, rule):
    with pytest.raises(ValueError) as caught:
        config(**{field: value})
    assert str(caught.value) == f"{field} must be {rule}, got {value!r}"


def test_all_broken_rules_are_told_at_once_a_line_each():
    with pytest.raises(ValueError) as caught:
        V1Config(chunk_size=0, dropout=2.0)
    assert str(caught.value).splitlines() == [
        "chunk_size must be >= 1, got 0",
        "dropout must be >= 0 and < 1, got 2.0",
    ]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_that_can_be_a_number_has_a_rule(config):
    """Rules that hold only for a field that is not null are looked for with that field set."""
    hints = get_type_hints(config)
    numeric = {field.name for field in dataclasses.fields(config) if {int, float} & set(options(hints[field.name]))}
    annealed = {"plan_temperature_start": 1.0, "plan_temperature_end": 1.0} if config is V2Config else {}
    assert numeric <= {rule[0] for rule in config(**annealed).rules()}


def options(hint):
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@pytest.mark.parametrize("config", [*CONFIGS, GRUConfig, TransformerConfig])
def test_the_defaults_are_valid_frozen_and_keyword_only(config):
    made = config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, 1)
    with pytest.raises(TypeError):
        config(1)


@pytest.mark.parametrize("config", MODELS)
def test_an_executor_must_fit_the_width(config):
    sizes = {"fusion_dim": 6} if config is V1Config else {}
    config(hidden_dim=24, executor=TransformerConfig(num_heads=3), **sizes)
    with pytest.raises(ValueError) as caught:
        config(hidden_dim=20, executor=TransformerConfig(num_heads=4), **sizes)
    rule = "a number that divides hidden_dim (20) into heads of even width"
    assert str(caught.value) == f"executor.num_heads must be {rule}, got 4"


def test_tied_embeddings_need_one_width():
    assert V1Config(tie_embeddings=True, fusion_dim=32, token_dim=32).tie_embeddings
    assert TransformerLMConfig(tie_embeddings=True, hidden_dim=32, token_dim=32).tie_embeddings


def test_as_many_experts_as_plan_states():
    assert V2Config(num_experts=8).num_experts == 8
    assert V2Config(num_experts=3, num_plan_states=3).num_plan_states == 3


class TestSchedules:
    @pytest.mark.parametrize(("start", "end"), [(1.0, None), (None, 0.5)])
    def test_both_temperatures_or_neither(self, start, end):
        with pytest.raises(ValueError) as caught:
            V2Config(plan_temperature_start=start, plan_temperature_end=end)
        rule = "given together with plan_temperature_start, or neither"
        assert str(caught.value) == f"plan_temperature_end must be {rule}, got {end!r}"

    @pytest.mark.parametrize("name", ["plan_temperature_start", "plan_temperature_end"])
    @pytest.mark.parametrize("value", [0.0, -1.0, 1e-320, NAN, math.inf])
    def test_annealed_temperatures_are_positive(self, name, value):
        fine = {"plan_temperature_start": 1.0, "plan_temperature_end": 0.5}
        with pytest.raises(ValueError) as caught:
            V2Config(**{**fine, name: value})
        assert str(caught.value) == f"{name} must be between 1e-28 and 1e+28, got {value!r}"

    def test_the_temperature_moves_linearly_and_stays_at_its_end(self):
        config = V2Config(plan_temperature_start=2.0, plan_temperature_end=0.5, planner_temperature=7.0)
        assert [config.temperature_at(step, 10) for step in (0, 5, 10, 11)] == [2.0, 1.25, 0.5, 0.5]

    def test_without_a_schedule_it_is_the_configured_one(self):
        assert [V2Config(planner_temperature=0.7).temperature_at(step, 10) for step in (0, 10)] == [0.7, 0.7]

    def test_the_hard_fraction_waits_ramps_and_stays_at_its_maximum(self):
        config = V2Config(
            plan_commitment="gumbel_st",
            commitment_warmup_steps=3,
            commitment_ramp_steps=4,
            commitment_max_hard_fraction=0.8,
        )
        wanted = [0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
        assert [config.hard_fraction_at(step) for step in range(9)] == pytest.approx(wanted)

    def test_without_a_ramp_it_is_hard_at_once(self):
        config = V2Config(plan_commitment="gumbel_st", commitment_warmup_steps=1)
        assert [config.hard_fraction_at(step) for step in range(3)] == [0.0, 1.0, 1.0]

    def test_a_soft_plan_is_never_committed(self):
        assert V2Config(commitment_max_hard_fraction=1.0).hard_fraction_at(10**6) == 0.0
