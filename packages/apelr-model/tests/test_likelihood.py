"""The NLL alone: it is that of `evaluate` and `score`, at any length, in any segments."""

import math

import pytest
import torch

from apelr_model import (
    ImpossibleObservationError,
    MixtureOfSoftmaxesConfig,
    PlanPolicy,
    TokenBatch,
    V2Config,
    build_model,
    evaluate,
    likelihood,
    mean_nll,
    score,
)
from apelr_model.executor_config import GRUConfig, TransformerConfig

EXECUTORS = {"gru": GRUConfig(), "transformer": TransformerConfig(num_heads=2, num_kv_heads=1)}


def make_v2(executor="gru", device="cpu", **sizes):
    plan = {"num_plan_states": 3, "chunk_size": 4, "lookahead_feedback_scale": 0.3, **sizes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(V2Config(token_dim=8, hidden_dim=8, executor=EXECUTORS[executor], **plan), 11)
    return model.to(device=device, dtype=torch.float64).eval()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_it_is_the_nll_of_evaluate_and_of_score(device, make_batch, executor):
    model = make_v2(executor, device)
    lengths, width = [10, 3, 7], 10
    batch = make_batch(lengths, width=width)
    found = mean_nll(model, [batch, make_batch([5], seed=1)])
    assert found.targets == 25
    assert found.nll == pytest.approx(evaluate(model, [batch, make_batch([5], seed=1)]).nll, abs=1e-12)
    total = 0.0
    for row, length in enumerate(lengths):
        ids = [*batch.inputs[row, :length].tolist(), int(batch.targets[row, length - 1])]
        total -= float(score(model, ids).log_prob.sum())
    assert mean_nll(model, [batch]).nll == pytest.approx(total / 20, abs=1e-12)


@pytest.mark.parametrize("segment", [1, 2, 3, 7, 12, 13])
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("documents", [False, True])
def test_segments_change_nothing(device, make_batch, monkeypatch, segment, executor, documents):
    model = make_v2(executor, device)
    batch = make_batch([12, 2, 7, 1, 11], width=12)
    if documents:
        clock = torch.arange(12).expand(5, -1).clone()
        for row, start in enumerate((4, 1, 3, 9, 6)):
            clock[row, start:] -= start
        batch = batch._replace(positions=clock.to(device))
    whole = mean_nll(model, [batch])
    monkeypatch.setattr(likelihood, "SEGMENT", segment)
    assert mean_nll(model, [batch]).nll == pytest.approx(whole.nll, abs=1e-10)


def test_a_policy_counts(device, make_batch):
    model, batch = make_v2(device=device), make_batch([9, 4])
    policy = PlanPolicy(mode="uniform")
    assert mean_nll(model, [batch], policy=policy).nll == pytest.approx(evaluate(model, [batch], policy=policy).nll)
    assert mean_nll(model, [batch], policy=policy).nll != pytest.approx(mean_nll(model, [batch]).nll)


def test_mode_and_random_state_are_left_alone(device, make_batch):
    model = build_model(MixtureOfSoftmaxesConfig(token_dim=8, hidden_dim=8, dropout=0.5), 11).to(device).train()
    before = torch.get_rng_state()
    assert mean_nll(model, [make_batch([4])]) == mean_nll(model, [make_batch([4])])
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_an_impossible_target_is_named(device, monkeypatch):
    model = make_v2(device=device)
    with torch.no_grad():
        model.head.bias[:, 9] = -math.inf
    batch = TokenBatch(torch.tensor([[1, 2, 3]] * 2), torch.tensor([[2, 3, 4], [2, 3, 9]]), torch.tensor([3, 3]))
    monkeypatch.setattr(likelihood, "SEGMENT", 2)
    message = "^target 2 of row 1 has probability zero under every plan state: its NLL is infinite$"
    with pytest.raises(ImpossibleObservationError, match=message):
        mean_nll(model, [batch])


def test_no_batch_is_refused(device):
    with pytest.raises(ValueError, match=r"^evaluation needs at least one batch with a target$"):
        mean_nll(make_v2(device=device), [])
