"""An independent library agrees: one token a chunk and no evidence make a categorical hidden Markov model."""

import numpy as np
import torch
from hmmlearn.hmm import CategoricalHMM
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_model import (
    ChunkRule,
    filter_sequence,
    plan_path_log_prob,
    plan_trellis,
    score,
    smooth_plans,
    viterbi_plans,
)


def distributions(generator, *shape):
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.02
    return weights / weights.sum(-1, keepdim=True)


def reference(initial, transition, emission):
    model = CategoricalHMM(n_components=len(initial), n_features=emission.shape[1])
    model.startprob_, model.transmat_, model.emissionprob_ = initial.numpy(), transition.numpy(), emission.numpy()
    return model


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(2, 9), st.integers(1, 80), st.integers(0, 2**32))
def test_the_filter_gives_hmmlearns_log_likelihood(device, states, vocab, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    initial, transition = distributions(generator, states), distributions(generator, states, states)
    emission = distributions(generator, states, vocab)
    targets = torch.randint(0, vocab, (steps,), generator=generator)
    result = filter_sequence(
        emission.log().T[targets].unsqueeze(0).to(device),
        initial.log().to(device),
        transition.log().to(device),
        ChunkRule(chunk_size=1).index(0, steps),
    )
    other = reference(initial, transition, emission)
    observations = targets.numpy().reshape(-1, 1)
    assert abs(result.token_log_prob.sum().item() - other.score(observations)) <= 1e-8
    # At the last step the smoothed posterior, which the library gives, is the filtered belief.
    np.testing.assert_allclose(
        result.log_belief_after[0, -1].exp().cpu().numpy(), other.predict_proba(observations)[-1], rtol=0, atol=1e-8
    )


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(2, 9), st.integers(1, 80), st.integers(0, 2**32))
def test_posteriors_and_best_paths_are_hmmlearns(device, states, vocab, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    initial, transition = distributions(generator, states), distributions(generator, states, states)
    emission = distributions(generator, states, vocab)
    targets = torch.randint(0, vocab, (steps,), generator=generator)
    trellis = plan_trellis(
        emission.log().T[targets].unsqueeze(0).to(device),
        initial.log().to(device),
        transition.log().to(device),
        ChunkRule(chunk_size=1).index(0, steps),
    )
    other = reference(initial, transition, emission)
    observations = targets.numpy().reshape(-1, 1)
    log_likelihood, posteriors = other.score_samples(observations)
    assert abs(trellis.log_prob.sum().item() - log_likelihood) <= 1e-8
    smoothed = smooth_plans(trellis)
    np.testing.assert_allclose(smoothed.log_posterior[0].exp().cpu().numpy(), posteriors, rtol=0, atol=1e-8)
    joint, path = other.decode(observations, algorithm="viterbi")
    best = viterbi_plans(trellis)
    theirs = plan_path_log_prob(trellis, torch.from_numpy(path).unsqueeze(0))
    assert best.plans[0].tolist() == path.tolist() or abs((best.log_posterior - theirs).item()) <= 1e-12  # a tie
    assert abs(best.log_posterior.item() + log_likelihood - joint) <= 1e-8


@settings(max_examples=10)
@given(st.integers(1, 5), st.integers(2, 60), st.integers(0, 1000))
def test_a_model_that_ignores_history_gives_hmmlearns_log_likelihood(make_model, states, steps, seed):
    model = make_model(num_plan_states=states, chunk_size=1, boundary_evidence=False, seed=seed)
    with torch.no_grad():
        model.head.state_proj.weight.zero_()
        emission = model.head(torch.zeros(1, 7, dtype=torch.float64, device=model.device))[0].softmax(-1)
        initial, transition = model.planner.log_initial().exp(), model.planner.log_transition().exp()
    ids = torch.randint(0, model.vocab_size, (steps + 1,), generator=torch.Generator().manual_seed(seed)).tolist()
    other = reference(initial.cpu(), transition.cpu(), emission.cpu())
    found = score(model, ids).log_prob.sum().item()
    assert abs(found - other.score(np.array(ids[1:]).reshape(-1, 1))) <= 1e-8
