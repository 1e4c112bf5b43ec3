"""The learning rate as a function of the step, and which parameters decay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_model import OptimConfig
from apelr_model.optim import build_optimizer, learning_rate


def rate(step, **changes):
    return learning_rate(OptimConfig(**{"lr": 1.0, "warmup_steps": 4, "max_steps": 14, **changes}), step)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_rises_linearly_to_the_peak(schedule):
    assert [rate(step, lr_schedule=schedule) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_shapes_after_the_warm_up():
    middle, end = 4 + 5, 14
    assert rate(middle, lr_schedule="constant") == rate(end, lr_schedule="constant") == 1.0
    assert rate(middle, lr_schedule="linear", min_lr_ratio=0.2) == pytest.approx(0.6)
    assert rate(middle, lr_schedule="cosine", min_lr_ratio=0.2) == pytest.approx(0.6)
    quarter = 4 + 2.5
    cosine = 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2
    assert learning_rate(OptimConfig(lr=1.0, warmup_steps=4, max_steps=14, min_lr_ratio=0.2), quarter) == pytest.approx(
        cosine
    )
    for schedule in ("linear", "cosine"):
        for step in (end, end + 1, 1000):
            assert rate(step, lr_schedule=schedule, min_lr_ratio=0.2) == pytest.approx(0.2)


def test_no_warm_up_starts_at_the_peak():
    assert rate(0, warmup_steps=0) == 1.0


@given(st.sampled_from(("constant", "linear", "cosine")), st.integers(0, 20), st.integers(1, 30), st.integers(0, 60))
def test_the_rate_is_positive_bounded_and_falls_after_the_warm_up(schedule, warmup, steps, step):
    config = OptimConfig(lr=2.0, lr_schedule=schedule, warmup_steps=warmup, max_steps=steps)
    now, after = learning_rate(config, step), learning_rate(config, step + 1)
    assert 0 < now <= 2.0
    assert (after >= now) if step < warmup else (after <= now)


def test_decay_falls_on_network_matrices_only(make_model):
    model = make_model(num_layers=2)
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.3))
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decays) == set(names.values())
    assert {name for name, decay in decays.items() if decay} == {
        "executor.token_emb.weight",
        "executor.gru.weight_ih_l0",
        "executor.gru.weight_hh_l0",
        "executor.gru.weight_ih_l1",
        "executor.gru.weight_hh_l1",
        "head.state_proj.weight",
        "head.plan_proj.weight",
        "head.out_proj.weight",
        "planner.context_proj.weight",
        "planner.recognizer.weight",
    }
    assert set(decays.values()) == {0.3, 0.0}
