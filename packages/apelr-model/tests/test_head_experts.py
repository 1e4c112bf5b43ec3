"""The expert head against K separate linear layers."""

import math

import pytest
import torch
from torch import nn

from apelr_model.head_experts import ExpertHead

K, D, V = 3, 16, 40


def make_head(*, states=K, dropout=0.0, vocab=V, hidden=D):
    torch.manual_seed(0)
    return ExpertHead(vocab_size=vocab, num_plan_states=states, hidden_dim=hidden, dropout=dropout).double()


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
