"""The factorized head: its formula, one dropout mask, its costs, and that it trains."""

import pytest
import torch

from apelr_model import DenseHeadConfig, FactorizedHeadConfig, MixtureOfSoftmaxesConfig, V2Config, build_model
from apelr_model.biased_log_probs import LARGEST_BIAS
from apelr_model.head_experts import ExpertHead
from apelr_model.head_factorized import FactorizedHead

N, K, D, V = 6, 3, 5, 11


def make(rank=0, dropout=0.0, device="cpu"):
    torch.manual_seed(0)
    head = FactorizedHead(vocab_size=V, num_plan_states=K, hidden_dim=D, dropout=dropout, rank=rank, init_std=1.0)
    if rank:
        torch.nn.init.normal_(head.up)
    return head.double().to(device)


@pytest.mark.parametrize("rank", [0, 2])
def test_logits_are_shared_ones_and_what_each_state_adds(rank, device):
    head, hidden = make(rank, device=device), torch.randn(N, D, dtype=torch.float64, device=device)
    beta = LARGEST_BIAS * torch.tanh(head.raw_plan_bias / LARGEST_BIAS)
    for k in range(K):
        wanted = hidden @ head.weight.T + head.bias + beta[k]
        if rank:
            wanted = wanted + (hidden @ head.down[k * rank : (k + 1) * rank].T) @ head.up.T
        torch.testing.assert_close(head(hidden)[:, k], wanted)


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("shape", [(N,), (N, 4)])
def test_target_log_probs_are_log_softmax_of_the_logits(rank, shape, device):
    head = make(rank, device=device)
    hidden = torch.randn(N, D, dtype=torch.float64, device=device, requires_grad=True)
    targets = torch.randint(V, shape, device=device)
    found = head.outputs(hidden).target_log_probs(targets)
    log_probs = head(hidden).log_softmax(-1)
    wanted = log_probs.gather(-1, targets.view(N, 1, -1).expand(-1, K, -1)).transpose(1, 2)
    wanted = wanted.squeeze(1) if targets.ndim == 1 else wanted
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    parameters = [hidden, *head.parameters()]
    gradients = [torch.autograd.grad(x.square().sum(), parameters) for x in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_biases_stay_within_their_bound():
    head = make()
    with torch.no_grad():
        head.raw_plan_bias.copy_(torch.linspace(-1e4, 1e4, K * V).view(K, V))
    assert head.plan_bias().abs().max() <= LARGEST_BIAS
    assert (head.plan_bias().sign() == head.raw_plan_bias.sign()).all()


def test_every_token_depends_on_the_state():
    log_probs = make()(torch.randn(N, D, dtype=torch.float64)).log_softmax(-1)
    for one in range(K):
        for other in range(one):
            assert ((log_probs[:, one] - log_probs[:, other]).abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize("rank", [0, 2])
def test_one_dropout_mask_serves_all_states(rank):
    head, hidden = make(rank, dropout=0.5).train(), torch.ones(N, D, dtype=torch.float64)
    parts = head.outputs(hidden)
    assert set(parts.features.unique().tolist()) == {0.0, 2.0}
    if rank:
        wanted = torch.stack([parts.features @ head.down[k * rank : (k + 1) * rank].T for k in range(K)], 1)
        torch.testing.assert_close(parts.plan_features, wanted)


def test_rank_adds_what_it_says_and_starts_as_rank_zero():
    plain, ranked = (
        FactorizedHead(vocab_size=V, num_plan_states=K, hidden_dim=D, dropout=0.0, rank=rank, init_std=1.0)
        for rank in (0, 2)
    )
    count = lambda head: sum(p.numel() for p in head.parameters())  # noqa: E731
    assert count(plain) == V * D + V + K * V
    assert count(ranked) == count(plain) + K * 2 * D + V * 2
    assert plain.flops_per_token == 2 * (V * D + K * V)
    assert ranked.flops_per_token == 2 * (V * D + K * 2 * D + K * V * 2)
    assert plain.logits_per_token == K * V
    ranked.load_state_dict({**ranked.state_dict(), **plain.state_dict()})
    hidden = torch.randn(N, D)
    torch.testing.assert_close(ranked(hidden), plain(hidden))


@pytest.mark.parametrize("kind", [V2Config, MixtureOfSoftmaxesConfig])
def test_a_configuration_chooses_the_head(kind):
    sizes = {"num_plan_states": K, "hidden_dim": D, "token_dim": 4}
    assert isinstance(build_model(kind(**sizes), V).head, ExpertHead)
    assert isinstance(build_model(kind(**sizes, head=DenseHeadConfig()), V).head, ExpertHead)
    head = build_model(kind(**sizes, head=FactorizedHeadConfig(rank=1, init_std=0.0)), V).head
    assert isinstance(head, FactorizedHead)
    assert head.up.shape == (V, 1)
    assert not head.raw_plan_bias.any()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"rank": -1}, "rank must be >= 0, got -1"),
        ({"init_std": float("nan")}, "init_std must be between 0 and 10, got nan"),
        ({"init_std": 11.0}, "init_std must be between 0 and 10, got 11.0"),
    ],
)
def test_rules(wrong, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        FactorizedHeadConfig(**wrong)
