"""The trellis of a scored text: the same whether the text is read at once or in pieces, in every version with plans."""

import math

import pytest
import torch

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    PlanPolicy,
    TransformerLMConfig,
    V1Config,
    V2Config,
    plan_trellis,
    score,
    smooth_plans,
    viterbi_plans,
)
from apelr_model import scoring as scoring_module
from apelr_model.planner import observed_targets


def ids_of(count, seed=0):
    return torch.randint(0, 11, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def same(a, b):
    assert (a is None) == (b is None)
    if a is not None:
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [V1Config, V2Config])
@pytest.mark.parametrize("chunk_size", [1, 3, 4, 50])
@pytest.mark.parametrize("boundary_evidence", [True, False])
@pytest.mark.parametrize("policy", [None, PlanPolicy(freeze_after=6)])
def test_reading_in_pieces_gives_the_trellis_of_the_whole_text(
    make_model, monkeypatch, kind, chunk_size, boundary_evidence, policy
):
    model = make_model(kind=kind, chunk_size=chunk_size, boundary_evidence=boundary_evidence)
    ids = ids_of(18)
    row = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        reading = model.read(row[:, :-1], row[:, 1:], policy=policy)
        whole = plan_trellis(
            reading.state_log_probs,
            model.planner.log_initial(),
            model.planner.log_transition(),
            reading.segments,
            evidence=reading.evidence,
            observed=observed_targets(reading.positions, model.policy if policy is None else policy, 1),
        )
    for piece in (1, 4, 5, 1024):
        monkeypatch.setattr(scoring_module, "SEGMENT", piece)
        found = score(model, ids, policy=policy, with_trellis=True)
        plain = score(model, ids, policy=policy)
        assert plain.trellis is None
        same(found.log_prob, plain.log_prob)
        for name in ("log_before", "log_after", "log_prob", "run_log_probs", "evidence"):
            same(getattr(found.trellis, name), getattr(whole, name))
        same(smooth_plans(found.trellis).log_posterior, smooth_plans(whole).log_posterior)
        assert torch.equal(viterbi_plans(found.trellis).plans, viterbi_plans(whole).plans)
        number = found.trellis.segments.number[0].tolist()
        if policy is None:
            assert number == found.chunk_index
            assert found.trellis.log_prob.sum().item() == pytest.approx(found.log_prob.sum().item(), abs=1e-9)
            same(smooth_plans(found.trellis).log_posterior[0, -1], reading.state.log_belief[0])


def test_without_token_filtering_the_text_says_nothing_but_through_the_evidence(make_model):
    model = make_model(kind=V2Config, token_filtering=False, boundary_evidence=False)
    found = score(model, ids_of(12), with_trellis=True)
    prior = found.trellis.log_before
    same(smooth_plans(found.trellis).log_posterior, prior)
    exact = score(make_model(kind=V2Config, boundary_evidence=False), ids_of(12), with_trellis=True)
    assert (smooth_plans(exact.trellis).log_posterior - prior).abs().max() > 0.01


def test_an_impossible_target_leaves_no_path(make_model):
    model = make_model()
    with torch.no_grad():
        model.head.plan_vocab_bias[:, 3] = -math.inf
    found = score(model, [1, 2, 3, 4], with_trellis=True)
    assert viterbi_plans(found.trellis).plans.tolist() == [[-1]]


@pytest.mark.parametrize("kind", [MixtureOfSoftmaxesConfig, TransformerLMConfig])
def test_models_without_a_chain_of_plans_say_so(make_model, kind):
    model = make_model(kind=kind)
    with pytest.raises(ValueError, match=rf"^{model.config.version} has no chain of plans"):
        score(model, [1, 2, 3], with_trellis=True)
    assert score(model, [1, 2, 3]).trellis is None
