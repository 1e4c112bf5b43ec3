"""From a batch to its loss: terms against plain references, accumulation, signs, and the named errors."""

import dataclasses
import math

import pytest
import torch

from apelr_model import ImpossibleObservationError, NonFiniteError, TokenBatch, V1LossWeights
from apelr_model.objective import LossTerms, loss_terms, step_totals, total_loss

ALL = V1LossWeights(
    entropy_reg_weight=0.3, usage_balance_weight=0.4, chunk_bow_weight=0.5, plan_mi_weight=0.6, chunk_post_kl_weight=0.7
)
MEANS = ("nll", "belief_entropy", "chunk_bow", "plan_mi", "chunk_post_kl")
RAGGED = [10, 3, 7, 1, 4, 9]


def entropy(probabilities):
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def kl(first, second):
    return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True) if p > 0)


def plain_terms(model, batch, enumerate_paths):
    """Every term from its formula, a row at a time, in plain Python on full [T, K, V] distributions."""
    size = model.chunks.chunk_size
    sums = {name: [] for name in MEANS}
    after_all = []
    for row in range(len(batch.lengths)):
        length = int(batch.lengths[row])
        hidden, _ = model.executor(batch.inputs[row : row + 1, :length], model.executor.initial_carry(1))
        hidden = hidden[0]
        words = model.head(hidden).softmax(-1).tolist()  # [T][K][V]
        targets = batch.targets[row, :length].tolist()
        states = range(len(words[0]))
        chosen = [[math.log(words[t][k][y]) for k in states] for t, y in enumerate(targets)]
        evidence = None
        if model.planner.context_proj is not None:
            evidence = {c: model.planner.evidence(hidden[c * size]).tolist() for c in range(1, -(-length // size))}
        probabilities, before, after = enumerate_paths(
            chosen,
            model.planner.log_initial().exp().tolist(),
            model.planner.log_transition().exp().tolist(),
            [t // size for t in range(length)],
            evidence,
        )
        after_all += after
        sums["nll"] += [-math.log(p) for p in probabilities]
        sums["belief_entropy"] += [entropy(b) for b in after]
        for t in range(length):
            mixture = [sum(before[t][k] * words[t][k][v] for k in states) for v in range(len(words[t][0]))]
            sums["plan_mi"].append(entropy(mixture) - sum(before[t][k] * entropy(words[t][k]) for k in states))
        for start in range(0, length, size):
            span = range(start, min(start + size, length))
            own = [targets[t] for t in span]
            mixture = {
                v: sum(before[start][k] * sum(words[t][k][v] for t in span) / len(span) for k in states) for v in own
            }
            sums["chunk_bow"].append(-sum(math.log(mixture[v]) for v in own) / len(own))
            guess = model.planner.recognizer(hidden[span.start : span.stop].mean(0)).softmax(-1).tolist()
            end = after[span.stop - 1]
            sums["chunk_post_kl"].append((kl(guess, end) + kl(end, guess)) / 2)
    usage = [sum(b[k] for b in after_all) / len(after_all) for k in range(len(after_all[0]))]
    means = {name: sum(values) / len(values) for name, values in sums.items()}
    return {**means, "usage_kl": kl(usage, [1 / len(usage)] * len(usage))}, usage


@pytest.mark.parametrize("evidence", [True, False])
@pytest.mark.parametrize("lengths", [[8, 8], [10, 3, 7, 1], [9]])
def test_every_term_equals_its_formula(make_model, make_batch, enumerate_paths, lengths, evidence):
    model = make_model(boundary_evidence=evidence)
    batch = make_batch(lengths)
    with torch.no_grad():
        found = loss_terms(model, batch, ALL)
        expected, usage = plain_terms(model, batch, enumerate_paths)
    for name, wanted in expected.items():
        assert getattr(found, name).item() == pytest.approx(wanted, abs=1e-9), name
    assert found.usage.tolist() == pytest.approx(usage, abs=1e-10)


def test_the_total_is_the_signed_weighted_sum(make_model, make_batch):
    with torch.no_grad():
        terms = loss_terms(make_model(), make_batch(RAGGED), ALL)
    wanted = (
        terms.nll
        + 0.3 * terms.belief_entropy
        + 0.4 * terms.usage_kl
        + 0.5 * terms.chunk_bow
        - 0.6 * terms.plan_mi
        + 0.7 * terms.chunk_post_kl
    )
    torch.testing.assert_close(total_loss(terms, ALL, 0), wanted)


def test_the_bag_of_words_weight_in_force_is_that_of_the_step(make_model, make_batch):
    weights = V1LossWeights(chunk_bow_weight=2.0, chunk_bow_warmup_steps=10)
    with torch.no_grad():
        terms = loss_terms(make_model(), make_batch(RAGGED), weights)
    for step, weight in ((0, 0.0), (5, 1.0), (10, 2.0), (99, 2.0)):
        torch.testing.assert_close(total_loss(terms, weights, step), terms.nll + weight * terms.chunk_bow)


def test_a_term_without_a_weight_is_not_computed(make_model, make_batch):
    with torch.no_grad():
        terms = loss_terms(make_model(), make_batch(RAGGED), V1LossWeights())
    assert [name for name in (*MEANS, "usage_kl") if getattr(terms, name) is not None] == ["nll"]


@pytest.mark.parametrize(
    ("weight", "term", "direction"),
    [
        ("entropy_reg_weight", "belief_entropy", -1),
        ("usage_balance_weight", "usage_kl", -1),
        ("chunk_bow_weight", "chunk_bow", -1),
        ("plan_mi_weight", "plan_mi", +1),
        ("chunk_post_kl_weight", "chunk_post_kl", -1),
    ],
)
def test_one_gradient_step_with_a_large_weight_moves_the_term_the_stated_way(
    make_model, make_batch, weight, term, direction
):
    model, batch = make_model(), make_batch(RAGGED)
    for sign in (+1, -1):
        weights = V1LossWeights(**{weight: sign * 1000.0})
        trained = make_model()
        trained.load_state_dict(model.state_dict())
        first = loss_terms(trained, batch, weights)
        total_loss(first, weights, 0).backward()
        with torch.no_grad():
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in trained.parameters() if p.grad is not None))
            for parameter in trained.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad / norm
            second = loss_terms(trained, batch, weights)
        moved = (getattr(second, term) - getattr(first, term)).item()
        assert moved * direction * sign > 1e-6


def test_every_parameter_gets_a_gradient(make_model, make_batch):
    model = make_model(num_layers=2).train()
    total_loss(loss_terms(model, make_batch(RAGGED), ALL), ALL, 0).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()] == []


class TestAccumulation:
    @pytest.mark.parametrize("parts", [2, 3, 4, 6])
    @pytest.mark.parametrize("lengths", [RAGGED, [8] * 6])
    def test_gradients_and_means_are_those_of_the_full_batch(self, make_model, make_batch, parts, lengths):
        weights = dataclasses.replace(ALL, usage_balance_weight=0.0)
        batch = make_batch(lengths)
        whole, split = make_model(), make_model()
        terms = loss_terms(whole, batch, weights)
        total_loss(terms, weights, 0).backward()
        sums = dict.fromkeys(MEANS, 0.0)
        usage = torch.zeros_like(terms.usage)
        for micro in batch.split(parts):
            found = loss_terms(
                split,
                micro,
                weights,
                totals=step_totals(split, batch, weights, micro_batches=parts),
            )
            total_loss(found, weights, 0).backward()
            usage += found.usage
            for name in MEANS:
                sums[name] += getattr(found, name).item()
        for name in MEANS:
            assert sums[name] == pytest.approx(getattr(terms, name).item(), abs=1e-10), name
        torch.testing.assert_close(usage, terms.usage)
        for a, b in zip(whole.parameters(), split.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-6)

    def test_usage_kl_is_the_mean_of_the_micro_batches_own_values(self, make_model, make_batch):
        model, batch = make_model(), make_batch(RAGGED)
        with torch.no_grad():
            alone = [loss_terms(model, micro, ALL).usage_kl for micro in batch.split(3)]
            totals = step_totals(model, batch, ALL, micro_batches=3)
            shared = [loss_terms(model, micro, ALL, totals=totals).usage_kl for micro in batch.split(3)]
            whole = loss_terms(model, batch, ALL).usage_kl
        torch.testing.assert_close(sum(shared), sum(alone) / 3)
        assert abs(float(sum(shared) - whole)) > 1e-6  # a function of a batch mean does not decompose


def test_padding_changes_nothing(make_model, make_batch):
    batch = make_batch(RAGGED, width=15)
    valid = torch.arange(15, device=batch.inputs.device) < batch.lengths.unsqueeze(1)
    results = []
    for filler in (0, 7):
        model = make_model()
        filled = TokenBatch(
            batch.inputs.masked_fill(~valid, filler), batch.targets.masked_fill(~valid, filler), batch.lengths
        )
        terms = loss_terms(model, filled, ALL)
        total_loss(terms, ALL, 0).backward()
        results.append([*filter(torch.is_tensor, terms), *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


@pytest.mark.parametrize("lengths", [[1], [4], [5], [8, 1, 3], RAGGED])
def test_step_totals_count_targets_and_chunks(make_model, make_batch, lengths):
    totals = step_totals(make_model(chunk_size=4), make_batch(lengths), ALL, micro_batches=3)
    assert totals == (sum(lengths), sum(-(-n // 4) for n in lengths), 0, 3)


class TestErrors:
    def test_an_impossible_target_is_named_by_row_and_position(self, make_model, make_batch):
        model, batch = make_model(), make_batch([6, 6])
        batch.targets[batch.targets == 9] = 8
        batch.targets[1, 4] = 9
        with torch.no_grad():
            model.head.plan_vocab_bias[:, 9] = -math.inf
        message = "^target 4 of row 1 has probability zero under every plan state: its NLL is infinite$"
        with pytest.raises(ImpossibleObservationError, match=message):
            loss_terms(model, batch, V1LossWeights())

    @pytest.mark.parametrize("name", ["nll", "belief_entropy", "usage_kl", "chunk_bow", "plan_mi", "chunk_post_kl"])
    @pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf")])
    def test_a_non_finite_term_is_named_with_its_step(self, name, value, shown):
        fine = dict.fromkeys(("nll", "belief_entropy", "usage_kl", "chunk_bow", "plan_mi", "chunk_post_kl"))
        scalars = {key: torch.tensor(1.0) for key in fine} | {name: torch.tensor(value)}
        terms = LossTerms(usage=torch.ones(2) / 2, **scalars)
        message = f"^loss term {name} is {shown} at step 17; no parameter was changed$"
        with pytest.raises(NonFiniteError, match=message):
            total_loss(terms, ALL, 17)

    def test_a_very_unlikely_word_leaves_every_term_and_gradient_finite(self, make_model, make_batch):
        """150 nats: exp underflows in float32, but every term has a finite value, and float32 gives it."""
        batch = make_batch([8, 8])
        values = []
        for dtype in (torch.float64, torch.float32):
            model = make_model(dtype=dtype)
            with torch.no_grad():
                model.head.plan_vocab_bias[:, int(batch.targets[0, 0])] = -150.0
            terms = loss_terms(model, batch, ALL)
            total_loss(terms, ALL, 0).backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters())
            values.append([getattr(terms, name).item() for name in (*MEANS, "usage_kl")])
        assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-4)
