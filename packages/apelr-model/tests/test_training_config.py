"""Configuration of training: rules with their messages, signs and ramps of loss weights."""

import math

import pytest

from apelr_model import NoLossWeights, OptimConfig, V1LossWeights, V2LossWeights

NAN = math.nan

BROKEN = [
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
    (V2LossWeights, "usage_balance", NAN, "a finite number"),
    (V2LossWeights, "boundary_entropy", math.inf, "a finite number"),
    (V2LossWeights, "future_contrastive", -math.inf, "a finite number"),
    (V2LossWeights, "plan_js_div", NAN, "a finite number"),
    (V2LossWeights, "rep_unlikelihood", NAN, "a finite number"),
    (V2LossWeights, "rep_window", 0, ">= 1"),
]


@pytest.mark.parametrize(("config", "field", "value", "rule"), BROKEN)
def test_a_broken_rule_names_field_rule_and_value(config, field, value, rule):
    with pytest.raises(ValueError) as caught:
        config(**{field: value})
    assert str(caught.value) == f"{field} must be {rule}, got {value!r}"


def test_the_bag_of_words_weight_ramps_linearly():
    weights = V1LossWeights(chunk_bow_weight=2.0, chunk_bow_warmup_steps=4)
    assert [weights.chunk_bow_at(step) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert [weights.signed(step)["chunk_bow"] for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert V1LossWeights(chunk_bow_weight=2.0).chunk_bow_at(0) == 2.0


def test_signs_of_version_1():
    weights = V1LossWeights(
        entropy_reg_weight=1.0,
        usage_balance_weight=2.0,
        chunk_bow_weight=3.0,
        plan_mi_weight=4.0,
        chunk_post_kl_weight=5.0,
    )
    assert weights.signed(0) == {
        "belief_entropy": 1.0,
        "usage_kl": 2.0,
        "chunk_bow": 3.0,
        "plan_mi": -4.0,
        "chunk_post_kl": 5.0,
    }


def test_signs_of_version_2():
    weights = V2LossWeights(
        usage_balance=1.0, boundary_entropy=2.0, future_contrastive=3.0, plan_js_div=4.0, rep_unlikelihood=5.0
    )
    assert weights.signed(7) == {
        "usage_balance": 1.0,
        "boundary_entropy": 2.0,
        "future_contrastive": 3.0,
        "plan_js_div": -4.0,
        "rep_unlikelihood": 5.0,
    }


def test_the_controls_have_no_terms():
    assert NoLossWeights().signed(3) == {}


@pytest.mark.parametrize("weights", [V1LossWeights, V2LossWeights])
def test_all_terms_are_off_by_default(weights):
    assert not any(weights().signed(0).values())
