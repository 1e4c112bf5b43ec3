"""Scoring and evaluation: segments equal the whole, means equal a plain reference, nothing else changes."""

import math

import pytest
import torch

from apelr_model import (
    ImpossibleObservationError,
    MixtureOfSoftmaxesConfig,
    PlanPolicy,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    evaluate,
    score,
    scoring,
)
from apelr_model.objective import loss_terms

ALL = V1LossWeights(
    entropy_reg_weight=1.0, usage_balance_weight=1.0, chunk_bow_weight=1.0, plan_mi_weight=1.0, chunk_post_kl_weight=1.0
)

POLICIES = {
    V1Config: [{}, {"mode": "uniform"}, {"force_state": 1}, {"freeze_after": 5}],
    V2Config: [
        {},
        {"mode": "uniform"},
        {"force_state": 1, "token_filtering": False},
        {"freeze_after": 5},
        {"temperature": 0.5, "lookahead_horizon": 2, "feedback_scale": 0.6},
        {"token_filtering": False, "feedback_scale": 1.0},
    ],
    MixtureOfSoftmaxesConfig: [{}, {"mode": "uniform"}, {"force_state": 2}],
    TransformerLMConfig: [{}],
}


class TestScore:
    @pytest.mark.parametrize("segment", [1, 2, 3, 5, 7, 19, 20, 1000])
    @pytest.mark.parametrize("chunk_size", [1, 4])
    def test_segments_equal_the_whole(self, make_model, monkeypatch, segment, chunk_size):
        model = make_model(chunk_size=chunk_size)
        ids = torch.randint(0, 11, (21,), generator=torch.Generator().manual_seed(0)).tolist()
        monkeypatch.setattr(scoring, "SEGMENT", segment)
        found = score(model, ids)
        row = torch.tensor([ids], device=model.device)
        with torch.no_grad():
            whole = model.read(row[:, :-1], row[:, 1:])
        torch.testing.assert_close(found.log_prob, whole.filtered.token_log_prob[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(found.log_belief, whole.filtered.log_belief[0], rtol=0, atol=1e-10)
        assert found.chunk_index == [t // chunk_size for t in range(20)]

    @pytest.mark.parametrize("segment", [1, 3, 8])
    def test_segments_equal_the_whole_in_every_version_under_its_policies(
        self, make_model, monkeypatch, version, executor_sizes, segment
    ):
        model = make_model(kind=version, **executor_sizes)
        ids = torch.randint(0, 11, (18,), generator=torch.Generator().manual_seed(1)).tolist()
        row = torch.tensor([ids], device=model.device)
        monkeypatch.setattr(scoring, "SEGMENT", segment)
        for fields in POLICIES[version]:
            policy = PlanPolicy(**fields)
            found = score(model, ids, policy=policy)
            with torch.no_grad():
                whole = model.read(row[:, :-1], row[:, 1:], policy=policy)
            torch.testing.assert_close(found.log_prob, whole.filtered.token_log_prob[0], rtol=0, atol=1e-10)
            torch.testing.assert_close(found.log_belief, whole.filtered.log_belief[0], rtol=0, atol=1e-10)
            torch.testing.assert_close(found.log_gate, whole.filtered.log_gate[0], rtol=0, atol=1e-10)

    def test_chunks_of_version_2_count_inputs(self, make_model):
        found = score(make_model(kind=V2Config, chunk_size=3), list(range(9)))
        assert found.chunk_index == [0, 0, 1, 1, 1, 2, 2, 2]

    def test_a_text_of_any_length(self, make_model):
        model = make_model(dtype=torch.float32)
        found = score(model, [1, 2, 3, 4] * 1300)
        assert found.log_prob.shape == (5199,)
        assert torch.isfinite(found.log_prob).all()

    def test_an_impossible_target_is_minus_infinity_not_nan(self, make_model):
        model = make_model()
        with torch.no_grad():
            model.head.plan_vocab_bias[:, 9] = -math.inf
        found = score(model, [1, 2, 9, 3])
        assert found.log_prob.tolist()[1] == -math.inf
        assert not torch.isnan(found.log_prob).any()
        assert not torch.isnan(found.log_belief).any()

    def test_mode_and_random_state(self, make_model):
        model = make_model(dropout=0.5).train()
        before = torch.get_rng_state()
        first = score(model, [1, 2, 3])
        assert torch.equal(torch.get_rng_state(), before)
        assert not model.training
        assert torch.equal(first.log_prob, score(model, [1, 2, 3]).log_prob)
        assert not first.log_prob.requires_grad

    @pytest.mark.parametrize("ids", [[], [3]])
    def test_fewer_than_two_ids(self, make_model, ids):
        message = rf"^scoring needs at least 2 ids \(one to read, one to predict\), got {len(ids)}$"
        with pytest.raises(ValueError, match=message):
            score(make_model(), ids)

    @pytest.mark.parametrize("wrong", [-1, 11])
    def test_ids_outside_the_vocabulary(self, make_model, wrong):
        with pytest.raises(ValueError, match=rf"^ids must be between 0 and 10, got {wrong}$"):
            score(make_model(), [1, wrong, 2])


def plain_evaluation(model, batch, policy):
    """Means over targets from full distributions [T, K, V], a row at a time."""
    nll, mi, entropies, usage = [], [], [], []
    for row, length in enumerate(batch.lengths.tolist()):
        reading = model.read(batch.inputs[row : row + 1, :length], batch.targets[row : row + 1, :length], policy=policy)
        words = model.head(reading.hidden[0]).softmax(-1)
        gate = reading.filtered.log_gate[0].exp()
        mixture = (gate.unsqueeze(-1) * words).sum(1)
        own = mixture[torch.arange(length), batch.targets[row, :length]]
        nll += (-own.log()).tolist()
        of_states = -(words * words.log()).sum(-1)
        mi += (-(mixture * mixture.log()).sum(-1) - (gate * of_states).sum(-1)).tolist()
        after = reading.filtered.log_belief_after[0].exp()
        entropies += (-after.xlogy(after).sum(-1)).tolist()
        usage.append(after)
    used = torch.cat(usage).mean(0)
    return {
        "nll": sum(nll) / len(nll),
        "plan_mi": sum(mi) / len(mi),
        "belief_entropy": sum(entropies) / len(entropies),
        "usage_kl": math.log(len(used)) + float(used.xlogy(used).sum()),
        "usage": tuple(used.tolist()),
    }


class TestEvaluate:
    def test_every_version_under_its_policies(self, make_model, make_batch, version, executor_sizes):
        """What every version reports, against its formula; plan MI under the gate as used."""
        model, batch = make_model(kind=version, **executor_sizes), make_batch([9, 4, 7])
        for fields in POLICIES[version]:
            policy = PlanPolicy(**fields)
            found = evaluate(model, [batch], text_bytes=64, policy=policy)
            with torch.no_grad():
                wanted = plain_evaluation(model, batch, policy)
            for name, value in wanted.items():
                assert getattr(found, name) == pytest.approx(value, abs=1e-9), (name, fields)
            assert found.bits_per_byte == pytest.approx(wanted["nll"] * 20 / math.log(2) / 64)
            assert (found.chunk_bow is None) == (version not in (V1Config, V2Config))
            assert (found.chunk_post_kl is None) == (version is not V1Config)

    def test_one_expert_alone_knows_nothing_of_the_plan(self, make_model, make_batch):
        found = evaluate(make_model(kind=V2Config), [make_batch([9, 4])], policy=PlanPolicy(force_state=1))
        assert found.plan_mi == pytest.approx(0, abs=1e-10)

    def test_commitments_are_off(self, make_model, make_batch):
        model = make_model(kind=V2Config, plan_commitment="gumbel_st").train()
        model.planner.hard_fraction = 1.0
        assert evaluate(model, [make_batch([9, 4])]) == evaluate(make_model(kind=V2Config), [make_batch([9, 4])])

    def test_means_over_uneven_batches_equal_one_batch_of_all_rows(self, make_model, make_batch):
        """The terms themselves are tested against their formulas in test_objective.py."""
        model = make_model()
        lengths = [10, 3, 7, 1, 4, 9, 8]
        whole = make_batch(lengths)
        batches = [
            type(whole)(*(tensor[rows] for tensor in whole[:3])) for rows in (slice(0, 3), slice(3, 4), slice(4, 7))
        ]
        found = evaluate(model, batches, text_bytes=100)
        with torch.no_grad():
            wanted = loss_terms(model, whole, ALL)
        for name in ("nll", "belief_entropy", "usage_kl", "chunk_bow", "plan_mi", "chunk_post_kl"):
            assert getattr(found, name) == pytest.approx(getattr(wanted, name).item(), abs=1e-10), name
        assert found.usage == pytest.approx(wanted.usage.tolist(), abs=1e-12)
        assert found.targets == sum(lengths)
        assert found.perplexity == pytest.approx(math.exp(found.nll))
        assert found.text_bytes == 100
        assert found.bits_per_byte == pytest.approx(found.nll * sum(lengths) / math.log(2) / 100)

    def test_nll_equals_score(self, make_model, make_batch):
        model = make_model()
        batch = make_batch([9, 5])
        total = 0.0
        for row, length in enumerate((9, 5)):
            ids = [*batch.inputs[row, :length].tolist(), int(batch.targets[row, length - 1])]
            total -= score(model, ids).log_prob.sum().item()
        assert evaluate(model, [batch]).nll == pytest.approx(total / 14, abs=1e-10)

    def test_unknown_bytes_give_no_bits_per_byte(self, make_model, make_batch):
        found = evaluate(make_model(), [make_batch([4])])
        assert found.bits_per_byte is None
        assert found.text_bytes is None

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_random_state_and_gradients_are_left_alone(self, make_model, make_batch, training):
        model = make_model(dropout=0.5).train(training)
        before = torch.get_rng_state()
        first = evaluate(model, [make_batch([6, 3])])
        assert model.training is training
        assert torch.equal(torch.get_rng_state(), before)
        assert first == evaluate(model, [make_batch([6, 3])])
        assert all(p.grad is None for p in model.parameters())

    def test_the_mode_comes_back_after_an_error_too(self, make_model, make_batch):
        model = make_model().train()
        with torch.no_grad():
            model.head.plan_vocab_bias[:, :] = -math.inf
            model.head.plan_vocab_bias[:, 0] = 0.0
        with pytest.raises(ImpossibleObservationError, match="has probability zero under every plan state"):
            evaluate(model, [make_batch([6, 3])])
        assert model.training

    @pytest.mark.parametrize("batches", [[], iter(())])
    def test_no_batch_is_refused(self, make_model, batches):
        with pytest.raises(ValueError, match=r"^evaluation needs at least one batch with a target$"):
            evaluate(make_model(), batches)

    def test_a_hopeless_model_has_infinite_perplexity_not_an_overflow(self, make_model, make_batch):
        model = make_model()
        with torch.no_grad():
            model.head.plan_vocab_bias[:, :] = -1e4
            model.head.plan_vocab_bias[:, 10] = 0.0
        batch = make_batch([6])
        batch.targets.fill_(1)
        found = evaluate(model, [batch])
        assert found.nll > 1000
        assert found.perplexity == math.inf
