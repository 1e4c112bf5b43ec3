"""Parameters that give NaN are named as damaged wherever a text is read for its log-probabilities."""

import math

import pytest
import torch

from apelr_model import (
    Continuation,
    NonFiniteError,
    PlanPolicy,
    V1Config,
    V2Config,
    evaluate,
    mean_nll,
    planner_diagnostics,
    score,
    score_continuations,
)

WAYS = {
    "score": lambda model, batch: score(model, list(range(9))),
    "mean_nll": lambda model, batch: mean_nll(model, [batch]),
    "evaluate": lambda model, batch: evaluate(model, [batch]),
    "planner_diagnostics": lambda model, batch: planner_diagnostics(model, [batch]),
    "continuations": lambda model, batch: list(
        score_continuations(model, [Continuation([1, 2, 3, 4, 5, 6], [3])], batch_size=1)
    ),
}
MESSAGE = r"^the model's log-probabilities hold NaN; its parameters are damaged$"


@pytest.fixture(params=WAYS)
def read(request):
    return WAYS[request.param]


def damage(model, name, value):
    with torch.no_grad():
        dict(model.named_parameters())[name].fill_(value)
    return model.eval()


@pytest.mark.parametrize("kind", [V1Config, V2Config])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("executor.token_emb.weight", math.nan),
        ("executor.token_emb.weight", -math.inf),
        ("planner.initial_logits", -math.inf),
        ("planner.transition_logits", -math.inf),
        ("planner.context_proj.weight", math.nan),
    ],
)
def test_nan_is_refused(make_model, make_batch, read, kind, name, value):
    model = damage(make_model(kind=kind, dtype=torch.float32), name, value)
    with pytest.raises(NonFiniteError, match=MESSAGE):
        read(model, make_batch([9, 6]))


@pytest.mark.parametrize(("kind", "name"), [(V1Config, "head.out_proj.weight"), (V2Config, "head.weight")])
def test_finite_weights_may_be_too_large(make_model, make_batch, read, kind, name):
    model = make_model(kind=kind, dtype=torch.float32)
    weight = dict(model.named_parameters())[name]
    with torch.no_grad():
        weight.copy_(3e38 * weight.sign())
    with pytest.raises(NonFiniteError, match=MESSAGE):
        read(model.eval(), make_batch([9, 6]))


def test_one_dead_plan_state_is_enough_whatever_the_gate(make_model):
    model = make_model(kind=V2Config)
    with torch.no_grad():
        model.head.bias[1] = -math.inf
    for policy in (None, PlanPolicy(force_state=0)):
        with pytest.raises(NonFiniteError, match=MESSAGE):
            score(model, [1, 2, 3], policy=policy)


def test_what_stands_at_padding_does_not_count(make_model, make_batch):
    model, batch = make_model().eval(), make_batch([5, 2])
    batch.inputs[batch.valid & (batch.inputs == 0)] = 1
    expected = mean_nll(model, [batch])
    with torch.no_grad():
        model.executor.token_emb.weight[0] = math.nan  # what padding holds
    assert mean_nll(model, [batch]) == expected
    assert evaluate(model, [batch]).nll == pytest.approx(expected.nll)
