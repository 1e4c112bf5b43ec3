"""Bootstrap intervals: against plain loops over the same draws, and against what they promise."""

import math
import statistics

import pytest
import torch

from apelr_model.bootstrap import bootstrap_mean


def test_it_is_the_percentile_bootstrap_of_a_ratio_over_rows():
    sums, counts = torch.tensor([3.0, -1.0, 9.0, 0.5, 4.0]), torch.tensor([2, 0, 4, 1, 3])
    found = bootstrap_mean(sums, counts, resamples=200, generator=torch.Generator().manual_seed(7))
    rows = [(3.0, 2), (9.0, 4), (0.5, 1), (4.0, 3)]  # the row without a value counts nowhere
    drawn = torch.randint(4, (200, 4), generator=torch.Generator().manual_seed(7)).tolist()
    means = sorted(sum(rows[i][0] for i in draw) / sum(rows[i][1] for i in draw) for draw in drawn)
    assert found.mean == pytest.approx(16.5 / 10)

    def quantile(share):
        place = share * 199
        low = math.floor(place)
        return means[low] + (place - low) * (means[math.ceil(place)] - means[low])

    assert found.low == pytest.approx(quantile(0.025))
    assert found.high == pytest.approx(quantile(0.975))


def test_intervals_shrink_with_the_square_root_of_the_rows():
    draw = torch.Generator().manual_seed(0)
    widths = {}
    for rows in (50, 5000):
        values = torch.randn(rows, generator=draw)
        found = bootstrap_mean(values, torch.ones(rows), resamples=1000, generator=draw)
        widths[rows] = found.high - found.low
        assert widths[rows] == pytest.approx(2 * 1.96 * float(values.std()) / math.sqrt(rows), rel=0.15)
    assert widths[5000] < widths[50] / 7


def test_about_95_of_100_intervals_hold_the_true_mean():
    draw = torch.Generator().manual_seed(3)
    hits = []
    for _ in range(300):
        counts = torch.randint(1, 6, (40,), generator=draw)
        sums = torch.tensor([float(torch.randn(int(n), generator=draw).sum()) for n in counts])
        found = bootstrap_mean(sums + 2 * counts, counts, resamples=400, generator=draw)
        hits.append(found.low <= 2 <= found.high)
    assert 0.90 <= statistics.fmean(hits) <= 0.99


def test_the_global_random_state_is_left_alone_and_a_seed_decides():
    values, before = torch.arange(20.0), torch.get_rng_state()
    made = [
        bootstrap_mean(values, torch.ones(20), resamples=50, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert made[0] == made[1] != made[2]


def test_many_rows_are_drawn_in_pieces(monkeypatch):
    values = torch.arange(10.0)
    whole = bootstrap_mean(values, torch.ones(10), resamples=64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("apelr_model.bootstrap.DRAWS_AT_ONCE", 40)
    pieces = bootstrap_mean(values, torch.ones(10), resamples=64, generator=torch.Generator().manual_seed(0))
    assert pieces.mean == whole.mean
    assert pieces.high - pieces.low == pytest.approx(whole.high - whole.low, rel=0.5)


def test_one_row_has_no_interval():
    found = bootstrap_mean(torch.tensor([3.0]), torch.tensor([2]), resamples=9, generator=torch.Generator())
    assert found == (1.5, None, None)


def test_refusals():
    with pytest.raises(ValueError, match=r"^no row has a value to take the mean of$"):
        bootstrap_mean(torch.zeros(2), torch.zeros(2), resamples=9, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"^resamples must be >= 1, got 0$"):
        bootstrap_mean(torch.zeros(2), torch.ones(2), resamples=0, generator=torch.Generator())
