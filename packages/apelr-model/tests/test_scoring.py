"""Scoring and evaluation: segments equal the whole, means equal a plain reference, nothing else changes."""

import math

import pytest
import torch

from apelr_model import ImpossibleObservationError, V1LossWeights, evaluate, score, scoring
from apelr_model.objective import loss_terms

ALL = V1LossWeights(
    entropy_reg_weight=1.0, usage_balance_weight=1.0, chunk_bow_weight=1.0, plan_mi_weight=1.0, chunk_post_kl_weight=1.0
)


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


class TestEvaluate:
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
