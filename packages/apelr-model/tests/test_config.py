"""Configuration: every rule has its message (field, rule, value), defaults hold, nothing can be changed later."""

import dataclasses
import inspect
import math

import pytest

from apelr_model import OptimConfig, SamplingSettings, V1Config, V1LossWeights

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
    (V1LossWeights, "entropy_reg_weight", NAN, "a finite number"),
    (V1LossWeights, "usage_balance_weight", math.inf, "a finite number"),
    (V1LossWeights, "chunk_bow_weight", -math.inf, "a finite number"),
    (V1LossWeights, "plan_mi_weight", NAN, "a finite number"),
    (V1LossWeights, "chunk_post_kl_weight", NAN, "a finite number"),
    (V1LossWeights, "chunk_bow_warmup_steps", -1, ">= 0"),
    (OptimConfig, "lr", 0.0, "> 0 and finite"),
    (OptimConfig, "lr", NAN, "> 0 and finite"),
    (OptimConfig, "lr", math.inf, "> 0 and finite"),
    (OptimConfig, "warmup_steps", -1, ">= 0"),
    (OptimConfig, "min_lr_ratio", 1.5, "between 0 and 1"),
    (OptimConfig, "min_lr_ratio", NAN, "between 0 and 1"),
    (OptimConfig, "weight_decay", -0.1, ">= 0 and finite"),
    (OptimConfig, "weight_decay", NAN, ">= 0 and finite"),
    (OptimConfig, "grad_clip", -1.0, ">= 0 and finite"),
    (OptimConfig, "grad_clip", NAN, ">= 0 and finite"),
    (OptimConfig, "max_steps", 0, ">= 1"),
    (OptimConfig, "grad_accum_steps", 0, ">= 1"),
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
CONFIGS = [V1Config, V1LossWeights, OptimConfig, SamplingSettings]


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
def test_every_numeric_field_has_a_rule(config):
    numeric = {f.name for f in dataclasses.fields(config) if f.type in (int, float)}
    assert numeric == {rule[0] for rule in config().rules()}


@pytest.mark.parametrize("config", CONFIGS)
def test_the_defaults_are_valid_frozen_and_keyword_only(config):
    made = config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, 1)
    with pytest.raises(TypeError):
        config(1)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_is_followed_by_its_sentence(config):
    source = inspect.getsource(config)
    for name in (f.name for f in dataclasses.fields(config)):
        after = source.split(f"    {name}: ", 1)[1].splitlines()[1]
        assert after.strip().startswith('"""'), name


def test_the_bag_of_words_weight_ramps_linearly():
    weights = V1LossWeights(chunk_bow_weight=2.0, chunk_bow_warmup_steps=4)
    assert [weights.chunk_bow_at(step) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert V1LossWeights(chunk_bow_weight=2.0).chunk_bow_at(0) == 2.0
