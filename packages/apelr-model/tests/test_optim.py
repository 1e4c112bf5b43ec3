"""The learning rate as a function of the step, and which parameters decay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_model import (
    DenseHeadConfig,
    FactorizedHeadConfig,
    MixtureOfSoftmaxesConfig,
    OptimConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
)
from apelr_model.executor_config import TransformerConfig
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


@pytest.mark.parametrize("head", [DenseHeadConfig(), FactorizedHeadConfig(rank=2)])
@pytest.mark.parametrize("kind", [V1Config, V2Config, MixtureOfSoftmaxesConfig, TransformerLMConfig])
def test_the_plan_has_its_own_share_of_the_learning_rate(make_model, kind, head):
    """The planner's parameters, and of a factorized head the states' biases; decay is as it was."""
    sizes = {"head": head} if kind in (V2Config, MixtureOfSoftmaxesConfig) else {}
    model = make_model(kind=kind, **sizes)
    plain, scaled = (build_optimizer(model, OptimConfig(weight_decay=0.3, planner_lr_scale=s)) for s in (1.0, 0.25))
    names = {id(p): name for name, p in model.named_parameters()}
    shares = {names[id(p)]: group["lr_scale"] for group in scaled.param_groups for p in group["params"]}
    assert shares.keys() == set(names.values())
    for name, share in shares.items():
        assert share == (0.25 if name.startswith("planner.") or name == "head.raw_plan_bias" else 1.0), name
    assert ("head.raw_plan_bias" in shares) is (sizes == {"head": FactorizedHeadConfig(rank=2)})
    assert {group["lr_scale"] for group in plain.param_groups} == {1.0}
    decays_of = [
        {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (plain, scaled)
    ]
    assert decays_of[0] == decays_of[1]


GRU = {"executor.token_emb.weight", "executor.gru.weight_ih_l0", "executor.gru.weight_hh_l0"}
SECOND = {"executor.gru.weight_ih_l1", "executor.gru.weight_hh_l1"}
LAYER = ("attention.qkv.weight", "attention.out.weight", "mlp.gate_up.weight", "mlp.down.weight")
TRANSFORMER = {
    "executor.token_emb.weight",
    "executor.token_proj.weight",
    *(f"executor.layers.0.{name}" for name in LAYER),
}
DECAYED = {
    V1Config: {
        "head.state_proj.weight",
        "head.plan_proj.weight",
        "head.out_proj.weight",
        "planner.context_proj.weight",
        "planner.recognizer.weight",
    },
    V2Config: {"head.weight", "planner.context_proj.weight", "planner.future_proj.weight"},
    MixtureOfSoftmaxesConfig: {"head.weight", "planner.gate_proj.weight"},
    TransformerLMConfig: {"head.weight"},
}


def decays(model):
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.3))
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(names)
    assert {decay for _, decay in found} == {0.3, 0.0}
    return {name for name, decay in found if decay}


def test_decay_falls_on_network_matrices_only(make_model, version):
    """Never on biases, of which the experts' are a matrix, nor on what belongs to the plan itself."""
    assert decays(make_model(kind=version, num_layers=2)) == GRU | SECOND | DECAYED[version]
    transformer = make_model(kind=version, hidden_dim=8, executor=TransformerConfig(num_heads=2))
    assert decays(transformer) == TRANSFORMER | DECAYED[version]


@pytest.mark.parametrize(("kind", "sizes"), [(V1Config, {"fusion_dim": 5}), (TransformerLMConfig, {"hidden_dim": 5})])
def test_a_tied_matrix_is_updated_once(make_model, kind, sizes):
    tied = make_model(kind=kind, tie_embeddings=True, **sizes)
    assert "executor.token_emb.weight" in decays(tied)
    assert not {"head.out_proj.weight", "head.weight"} & decays(tied)
