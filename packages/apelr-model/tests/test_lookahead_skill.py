"""Skill of forecasts: chains with known beliefs, by loops over chunks and matrices of plain floats."""

import math

import pytest
import torch

from apelr_model import GoldChunks, LabelledBatch, lookahead_skill, read_gold_chunks
from apelr_model.lookahead_skill import state_meanings

CYCLE = [[0.1, 0.85, 0.05], [0.05, 0.1, 0.85], [0.85, 0.05, 0.1]]
SLOW = [[0.6, 0.35, 0.05], [0.05, 0.6, 0.35], [0.35, 0.05, 0.6]]


def draw_chunks(rows, length, *, transition=CYCLE, believed=None, seed=0, noise=0.0, gaps=0.0):
    """Chains drawn from `transition`; beliefs on the state, mixed with uniform by `noise`, in a model of `believed`."""
    draw = torch.Generator().manual_seed(seed)
    chain = torch.tensor(transition, dtype=torch.float64)
    states = len(chain)
    plan = torch.randint(states, (rows, 1), generator=draw)
    while plan.shape[1] < length:
        plan = torch.cat([plan, torch.multinomial(chain[plan[:, -1]], 1, generator=draw)], dim=1)
    belief = (1 - noise) * torch.nn.functional.one_hot(plan, states).double() + noise / states
    labels = plan.masked_fill(torch.rand(plan.shape, generator=draw) < gaps, -1)
    model = torch.tensor(transition if believed is None else believed, dtype=torch.float64)
    initial = torch.full((states,), 1 / states, dtype=torch.float64).log()
    return GoldChunks(belief.log(), belief.log(), labels, torch.zeros_like(plan), labels >= 0, model.log(), initial)


def plain_scores(chunks, calibration, step):
    """(row, forecast, stationary, persistence, frequencies) of every pair, in nats."""
    transition, labels = chunks.log_transition.exp().tolist(), chunks.labels.tolist()
    states, kinds = len(transition), 1 + max(max(row) for row in labels + calibration.labels.tolist())
    counts, seen = [[1.0] * kinds for _ in range(states)], [1] * kinds
    known = calibration.labels.masked_fill(~calibration.compared, -1)
    for beliefs, row in zip(calibration.log_filtered.exp().tolist(), known.tolist(), strict=True):
        for belief, gold in zip(beliefs, row, strict=True):
            for k in range(states) if gold >= 0 else ():
                counts[k][gold] += belief[k]
            if gold >= 0:
                seen[gold] += 1
    meaning = [[c / math.fsum(row) for c in row] for row in counts]

    def moved(belief):
        return [math.fsum(belief[i] * transition[i][j] for i in range(states)) for j in range(states)]

    stationary = [1 / states] * states
    for _ in range(2000):
        stationary = moved(stationary)
    found = []
    for row, (beliefs, golds) in enumerate(zip(chunks.log_filtered.exp().tolist(), labels, strict=True)):
        for c in range(len(golds) - step):
            gold, same = golds[c + step], chunks.document[row, c] == chunks.document[row, c + step]
            if gold < 0 or not same or chunks.document[row, c] < 0:
                continue
            ahead = beliefs[c]
            for _ in range(step):
                ahead = moved(ahead)
            scores = [
                math.log(math.fsum(b[k] * meaning[k][gold] for k in range(states)))
                for b in (ahead, stationary, beliefs[c])
            ]
            found.append((row, *scores, math.log(seen[gold] / sum(seen))))
    return found, meaning


def test_the_values_of_a_known_chain_by_loops():
    chunks = draw_chunks(40, 7, noise=0.3, gaps=0.2)
    chunks = chunks._replace(document=chunks.document.clone())
    chunks.document[3, 4:] = 4  # a row of two documents, and rows that end early
    chunks.document[30, 5:] = -1
    chunks.labels[30, 5:] = -1
    chunks.compared[chunks.labels < 0] = False
    chunks.compared[::3, 6] = False  # cut off: no part of the calibration, but foretold
    found = lookahead_skill(chunks, steps=4)
    calibration, scored = chunks.rows(0, 20), chunks.rows(20, 40)
    assert found.rows == 20
    assert found.calibration_chunks == int(calibration.compared.sum())
    assert [each.step for each in found.steps] == [1, 2, 3, 4]
    for each in found.steps:
        pairs, meaning = plain_scores(scored, calibration, each.step)
        assert each.chunks == len(pairs)
        means = [math.fsum(pair[i] for pair in pairs) / len(pairs) for i in (1, 2, 3, 4)]
        scores = (each.forecast, each.stationary, each.persistence, each.frequencies)
        assert scores == pytest.approx(tuple(means), abs=1e-10)
        assert each.over_stationary.mean == pytest.approx(means[0] - means[1], abs=1e-10)
        assert each.over_persistence.mean == pytest.approx(means[0] - means[2], abs=1e-10)
        assert each.over_frequencies.mean == pytest.approx(means[0] - means[3], abs=1e-10)
        for interval in (each.over_stationary, each.over_persistence, each.over_frequencies):
            assert interval.low < interval.mean < interval.high
        for ours, theirs in zip(found.meanings, meaning, strict=True):
            assert ours == pytest.approx(theirs)


def test_rows_of_their_own_to_learn_the_meanings_on():
    chunks, other = draw_chunks(20, 6, noise=0.3), draw_chunks(30, 5, noise=0.3, seed=1)
    found = lookahead_skill(chunks, steps=2, calibration=other)
    pairs, _ = plain_scores(chunks, other, 2)
    assert found.rows == 20
    assert found.steps[1].forecast == pytest.approx(math.fsum(p[1] for p in pairs) / len(pairs), abs=1e-10)
    assert state_meanings(other, 3).sum(1).tolist() == pytest.approx([1, 1, 1])


def test_names_of_the_states_do_not_matter():
    chunks = draw_chunks(40, 7, noise=0.3)
    order = torch.tensor([2, 0, 1])
    renamed = chunks._replace(
        log_filtered=chunks.log_filtered[..., order], log_transition=chunks.log_transition[order][:, order]
    )
    ours, theirs = lookahead_skill(renamed, steps=3), lookahead_skill(chunks, steps=3)
    for one, other in zip(ours.steps, theirs.steps, strict=True):
        assert one.forecast == pytest.approx(other.forecast)
        assert one.over_persistence == pytest.approx(other.over_persistence)


def test_the_true_chain_has_skill_and_a_permuted_one_less_than_none():
    true = lookahead_skill(draw_chunks(200, 10, transition=SLOW, noise=0.1), steps=2)
    for each in true.steps:
        assert each.over_stationary.low > 0.01
        assert each.over_persistence.low > 0.01
    backwards = [list(row) for row in zip(*SLOW, strict=True)]
    wrong = lookahead_skill(draw_chunks(200, 10, transition=CYCLE, believed=backwards, noise=0.1), steps=1).steps[0]
    assert wrong.over_stationary.high < 0


def test_a_chain_without_order_has_no_skill_over_its_stationary_distribution():
    even = [[0.2, 0.5, 0.3]] * 3
    for each in lookahead_skill(draw_chunks(100, 10, transition=even), steps=3).steps:
        assert each.over_stationary.mean == pytest.approx(0, abs=1e-12)
        assert each.over_persistence.low > 0


def test_frequencies_worked_by_hand_beat_a_chain_that_is_wrong_in_the_long_run():
    """The chain ends in state 0 with 0.9; of the 6 calibration labels 1 is 0 and 5 are 1: (1 + 1) / 8 and 6 / 8."""
    labels = torch.tensor([[0, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1]])
    belief = torch.nn.functional.one_hot(labels, 2).double()
    chain, start = torch.tensor([[0.9, 0.1]] * 2, dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    chunks = GoldChunks(
        belief.log(), belief.log(), labels, torch.zeros_like(labels), labels >= 0, chain.log(), start.log()
    )
    first = lookahead_skill(chunks, steps=1).steps[0]
    assert first.frequencies == pytest.approx((3 * math.log(6 / 8) + math.log(2 / 8)) / 4)
    # M = [[2, 1] / 3, [1, 6] / 7]
    stationary = [0.9 * 2 / 3 + 0.1 / 7, 0.9 / 3 + 0.1 * 6 / 7]
    assert first.stationary == pytest.approx((3 * math.log(stationary[1]) + math.log(stationary[0])) / 4)
    assert first.over_stationary.mean == pytest.approx(0, abs=1e-12)
    assert first.over_frequencies.mean == pytest.approx(first.forecast - first.frequencies)
    assert first.over_frequencies.mean < 0


def test_intervals_shrink_with_more_rows():
    few, many = (lookahead_skill(draw_chunks(rows, 6, noise=0.1), steps=1).steps[0] for rows in (20, 2000))
    for one, other in zip(
        (few.over_stationary, few.over_persistence), (many.over_stationary, many.over_persistence), strict=True
    ):
        assert other.high - other.low < (one.high - one.low) / 4


def test_a_seed_decides_and_the_global_random_state_is_left_alone():
    chunks, before = draw_chunks(30, 5), torch.get_rng_state()
    assert lookahead_skill(chunks) == lookahead_skill(chunks)
    first, other = (lookahead_skill(chunks, seed=seed).steps[0].over_stationary for seed in (0, 1))
    assert first != other
    assert first.mean == other.mean
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_reach_as_far_as_the_rows():
    assert [each.step for each in lookahead_skill(draw_chunks(10, 4), steps=8).steps] == [1, 2, 3]


def test_a_later_text_changes_no_forecast(make_model, make_batch):
    """The forecast from chunk c scores the same whatever the row says after it."""
    model = make_model()
    batch, other = make_batch([20, 20]), make_batch([20, 20])
    other.targets[:, 12:] = (other.targets[:, 12:] + 1) % 11
    other.inputs[:, 13:] = other.targets[:, 12:-1]
    labels = torch.arange(20).expand(2, -1) // 4 % 3
    ours, theirs = (read_gold_chunks(model, [LabelledBatch(each, labels)]) for each in (batch, other))
    assert torch.equal(ours.log_filtered[:, :3], theirs.log_filtered[:, :3])
    assert not torch.equal(ours.log_filtered[:, 3], theirs.log_filtered[:, 3])


def test_refusals():
    chunks = draw_chunks(4, 5)
    with pytest.raises(ValueError, match=r"^the rows to learn the states' meaning on hold no chunk with a known plan"):
        lookahead_skill(chunks.rows(0, 1))
    with pytest.raises(ValueError, match=r"^no row to be scored holds two chunks"):
        lookahead_skill(draw_chunks(4, 1))
    with pytest.raises(ValueError, match=r"^steps must be >= 1, got 0$"):
        lookahead_skill(chunks, steps=0)
