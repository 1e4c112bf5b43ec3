"""Logits in parts: both forms, and a weight given from outside."""

import pytest
import torch
from torch import nn

from apelr_model.head import StateOutputs
from apelr_model.head_experts import ExpertHead
from apelr_model.head_v1 import V1Head

N, K, F, V = 4, 3, 5, 6


def test_the_shared_form_applies_one_weight_to_every_states_features():
    features, weight, bias = torch.randn(N, K, F), torch.randn(V, F), torch.randn(K, V)
    found = StateOutputs(features, weight, bias).logits()
    wanted = torch.stack([features[:, k] @ weight.T + bias[k] for k in range(K)], 1)
    torch.testing.assert_close(found, wanted)


def test_the_expert_form_applies_every_states_weight_to_the_same_features():
    features, weight, bias = torch.randn(N, F), torch.randn(K * V, F), torch.randn(K, V)
    found = StateOutputs(features, weight, bias).logits()
    wanted = torch.stack([features @ weight[k * V : (k + 1) * V].T + bias[k] for k in range(K)], 1)
    torch.testing.assert_close(found, wanted)


def make(kind, weight):
    if kind == "v1":
        return V1Head(vocab_size=V, num_plan_states=K, hidden_dim=4, fusion_dim=F, dropout=0.0, weight=weight)
    return ExpertHead(vocab_size=V, num_plan_states=1, hidden_dim=F, dropout=0.0, weight=weight)


@pytest.mark.parametrize("kind", ["v1", "experts"])
def test_embeddings_can_be_the_output_weight(kind):
    embedding = nn.Embedding(V, F)
    before = embedding.weight.detach().clone()
    head = make(kind, embedding.weight)
    assert torch.equal(embedding.weight, before)  # used as it stands
    assert sum(p is embedding.weight for p in head.parameters()) == 1
    hidden = torch.randn(N, 4 if kind == "v1" else F)
    assert head.outputs(hidden).weight is embedding.weight
    head(hidden).square().sum().backward()
    assert embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["v1", "experts"])
def test_a_weight_of_another_shape_is_refused(kind):
    with pytest.raises(ValueError, match=r"weight must be \[6, 5\], got \[6, 4\]"):
        make(kind, nn.Parameter(torch.zeros(V, 4)))
