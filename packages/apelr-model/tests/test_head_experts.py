"""The expert head against K separate linear layers."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from apelr_model import MixtureOfSoftmaxesConfig, V2Config, build_model
from apelr_model.head_config import DenseHeadConfig
from apelr_model.head_experts import ExpertHead

K, D, V = 3, 16, 40


def make_head(*, states=K, dropout=0.0, vocab=V, hidden=D, **changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": vocab, "num_plan_states": states, "hidden_dim": hidden, "dropout": dropout}
    return ExpertHead(**sizes, **changes).double()


def test_logits_are_those_of_separate_linear_layers():
    """logits_k = W_k h + b_k, W_k being rows k V ... (k + 1) V - 1 of the weight."""
    head = make_head().eval()
    hidden = torch.randn(7, D, dtype=torch.float64)
    found = head(hidden)
    assert found.shape == (7, K, V)
    for k in range(K):
        layer = nn.Linear(D, V).double()
        layer.load_state_dict({"weight": head.weight[k * V : (k + 1) * V].detach(), "bias": head.bias[k].detach()})
        torch.testing.assert_close(found[:, k], layer(hidden))


def test_one_state_is_an_ordinary_softmax_head():
    head = make_head(states=1).eval()
    hidden = torch.randn(7, D, dtype=torch.float64)
    torch.testing.assert_close(head(hidden)[:, 0], nn.functional.linear(hidden, head.weight, head.bias[0]))


def test_every_state_is_initialised_as_a_linear_layer_is():
    """Uniform in +- 1 / sqrt(D), weight and bias, and no two states alike."""
    head = make_head(states=4, vocab=500, hidden=64)
    layer = nn.Linear(64, 500)
    for k in range(4):
        weight, bias = head.weight[k * 500 : (k + 1) * 500], head.bias[k]
        for found, like in ((weight, layer.weight), (bias, layer.bias)):
            assert found.abs().max() <= 1 / math.sqrt(64)
            assert found.std().item() == pytest.approx(like.std().item(), rel=0.1)
            assert found.mean().item() == pytest.approx(0, abs=0.02)
    assert (head.weight[:500] != head.weight[500:1000]).any()


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_spread_is_how_far_apart_fresh_experts_are(spread):
    """Of the variance of independent draws, bound^2 / 3, and a correlation of 1 - spread^2 between every two."""
    head = make_head(states=3, vocab=2000, hidden=64, spread=spread)
    for values in (head.weight.view(3, -1), head.bias):
        values = values.detach()
        bound, error = 1 / math.sqrt(64), 4 / math.sqrt(values.shape[1])
        torch.testing.assert_close(values.var(1) * 3 / bound**2, torch.ones(3).double(), rtol=0, atol=error)
        assert values.mean(1).abs().max() < error * bound
        found = torch.corrcoef(values)[[0, 0, 1], [1, 2, 2]]
        torch.testing.assert_close(found, torch.full((3,), 1 - spread**2).double(), rtol=0, atol=error)
        assert bool((values == values[0]).all()) is (spread == 0)


def test_full_spread_draws_what_was_drawn_without_one():
    """Weight and bias as two plain draws, and the random numbers after them too."""
    head = make_head(spread=1.0)
    after = torch.rand(5)
    torch.manual_seed(0)
    bound = 1 / math.sqrt(D)
    weight, bias = (torch.empty(shape).uniform_(-bound, bound) for shape in ((K * V, D), (K, V)))
    assert torch.equal(head.weight.float(), weight)
    assert torch.equal(head.bias.float(), bias)
    assert torch.equal(after, torch.rand(5))
    assert torch.equal(make_head().weight, head.weight)


def test_one_state_has_nothing_to_be_apart_from():
    assert torch.equal(make_head(states=1, spread=0.0).weight, make_head(states=1).weight)


@pytest.mark.parametrize("kind", [V2Config, MixtureOfSoftmaxesConfig])
def test_a_configuration_says_the_spread(kind):
    config = kind(num_plan_states=K, hidden_dim=D, token_dim=4, head=DenseHeadConfig(init_spread=0.0))
    weight = build_model(config, V).head.weight.view(K, V, D)
    assert (weight == weight[0]).all()
    weight = build_model(dataclasses.replace(config, head=DenseHeadConfig(init_spread=0.01)), V).head.weight.view(
        K, V, D
    )
    assert 0 < (weight[1:] - weight[0]).abs().max() <= 2 * 0.01 / math.sqrt(D) + 1e-6


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_rules(wrong):
    with pytest.raises(ValueError, match=f"^init_spread must be between 0 and 1, got {wrong}$"):
        DenseHeadConfig(init_spread=wrong)


def test_one_dropout_mask_serves_all_states():
    """With equal weights in every state the dropped logits are equal too, and rows of hidden differ in their masks."""
    head = make_head(dropout=0.5).train()
    with torch.no_grad():
        head.weight.view(K, V, D)[1:] = head.weight.view(K, V, D)[0].clone()
        head.bias[1:] = head.bias[0].clone()
    found = head(torch.ones(5, D, dtype=torch.float64))
    torch.testing.assert_close(found[:, 1:], found[:, :1].expand(-1, K - 1, -1))
    assert (found[0] != found[1]).any()


def test_dropout_acts_in_training_only():
    head = make_head(dropout=0.5)
    hidden = torch.randn(4, D, dtype=torch.float64)
    assert (head.train()(hidden) != head(hidden)).any()
    assert (head.eval()(hidden) == head(hidden)).all()
