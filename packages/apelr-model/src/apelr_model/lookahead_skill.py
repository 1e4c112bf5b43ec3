"""Does the model foresee the plan? Its forecasts of gold plans against three that know nothing of the chain's order."""

from typing import NamedTuple

import torch
from torch import Tensor

from apelr_model.bootstrap import Interval, bootstrap_mean
from apelr_model.gold_chunks import GoldChunks
from apelr_model.lookahead import forecast_by_powers, transition_powers
from apelr_model.plan_variants import stationary_distribution

__all__ = ["ForecastSkill", "LookaheadSkill", "lookahead_skill", "state_meanings"]


class ForecastSkill(NamedTuple):
    """Forecasts of the gold plan s chunks ahead; mean log scores, in nats."""

    step: int
    """s."""
    chunks: int
    """Chunks that were foretold."""
    forecast: float
    """Mean of log (b P^s M)(gold)."""
    stationary: float
    """The same with the chain's stationary distribution in the place of b P^s: a forecast that knows no text."""
    persistence: float
    """The same with b itself: everything stays as it is."""
    frequencies: float
    """The same with how often each label comes, (1 + count) / (G + chunks), in the calibration rows."""
    over_stationary: Interval
    """Forecast less stationary: skill, above 0 where the forecast is the better one."""
    over_persistence: Interval
    """Forecast less persistence."""
    over_frequencies: Interval
    """Forecast less frequencies."""


class LookaheadSkill(NamedTuple):
    """What a model's forecasts of the plan are worth."""

    steps: tuple[ForecastSkill, ...]
    """For s = 1, 2, ... as far as the rows reach."""
    meanings: tuple[tuple[float, ...], ...]
    """[K][G] M: p(gold label | plan state), from the calibration rows."""
    calibration_chunks: int
    """Chunks that M was estimated on: those with a label that no row's end cuts off."""
    rows: int
    """Rows that the forecasts were scored on."""


def lookahead_skill(
    chunks: GoldChunks,
    *,
    steps: int = 8,
    calibration: GoldChunks | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> LookaheadSkill:
    """Log scores of the forecasts b P^s of gold plans, s = 1 ... `steps`, and their skill with 95 % intervals.

    b is the filtered belief after a chunk's last target: no later text is used. `calibration` is where the states'
    meaning M is estimated; None takes the first half of the rows for it and scores the rest, so that no row is in
    both. Forecasts reach no further than their document in their row. Intervals are `bootstrap_mean` over rows, from a
    generator seeded with `seed`. Raises ValueError where a part has no labelled chunk, or no chunk can be foretold.
    """
    if calibration is None:
        half = len(chunks.labels) // 2
        calibration, chunks = chunks.rows(0, half), chunks.rows(half, len(chunks.labels))
    if not bool(calibration.compared.any()):
        raise ValueError("the rows to learn the states' meaning on hold no chunk with a known plan; give more rows")
    meanings = state_meanings(calibration, max(calibration.num_labels, chunks.num_labels))
    stationary = stationary_distribution(chunks.log_transition, chunks.log_initial) @ meanings
    frequencies = label_frequencies(calibration, meanings.shape[1])
    persistence = chunks.log_filtered.exp() @ meanings
    powers = transition_powers(chunks.log_transition, steps)
    ahead = forecast_by_powers(chunks.log_filtered.flatten(0, 1), powers) @ meanings
    ahead = ahead.unflatten(0, chunks.labels.shape)  # [N, S, steps, G]
    generator = torch.Generator().manual_seed(seed)
    found = []
    for step in range(1, min(steps, chunks.labels.shape[1] - 1) + 1):
        wanted = _foretold(chunks, step)
        if bool((wanted >= 0).any()):
            forecasts = (
                ahead[:, :-step, step - 1],
                stationary.expand(*wanted.shape, -1),
                persistence[:, :-step],
                frequencies.expand(*wanted.shape, -1),
            )
            found.append(_skill(step, wanted, forecasts, resamples, generator))
    if not found:
        raise ValueError("no row to be scored holds two chunks of which the later has a known plan; give longer rows")
    counted = int(calibration.compared.sum())
    return LookaheadSkill(tuple(found), tuple(tuple(row) for row in meanings.tolist()), counted, len(chunks.labels))


def state_meanings(chunks: GoldChunks, num_labels: int) -> Tensor:
    """Chunks, G -> M [K, G], float64: p(gold label | plan state) = (1 + sum_c b_c(k) [gold_c = g]) / sum over g.

    Expected counts under the filtered beliefs b_c after the chunks' last targets, with one more of every kind.
    """
    counts = 1 + chunks.log_filtered[chunks.compared].exp().T @ _one_hot(chunks, num_labels)
    return counts / counts.sum(1, keepdim=True)


def label_frequencies(chunks: GoldChunks, num_labels: int) -> Tensor:
    """Chunks, G -> [G], float64: p(gold label) = (1 + number of chunks with it) / sum over g; no belief is used."""
    counts = 1 + _one_hot(chunks, num_labels).sum(0)
    return counts / counts.sum()


def _one_hot(chunks: GoldChunks, num_labels: int) -> Tensor:
    """-> [n, G] 1 at the label of each of the n chunks that count."""
    return (chunks.labels[chunks.compared].unsqueeze(-1) == torch.arange(num_labels)).double()


def _foretold(chunks: GoldChunks, step: int) -> Tensor:
    """[N, S - step] the gold label `step` chunks after each; -1 where there is none in the same document."""
    now, then = chunks.document[:, :-step], chunks.document[:, step:]
    return chunks.labels[:, step:].masked_fill((now < 0) | (now != then), -1)


def _skill(
    step: int, wanted: Tensor, forecasts: tuple[Tensor, ...], resamples: int, generator: torch.Generator
) -> ForecastSkill:
    """wanted [N, n] labels, -1: none; four forecasts [N, n, G], the chain's and the baselines' -> ForecastSkill."""
    scored = wanted >= 0
    label = wanted.masked_fill(~scored, 0).unsqueeze(-1)
    scores = [each.gather(-1, label).squeeze(-1).log().masked_fill(~scored, 0.0) for each in forecasts]
    counts = scored.sum(1)
    total = int(counts.sum())
    forecast, stationary, persistence, frequencies = (float(each.sum()) / total for each in scores)
    over_stationary, over_persistence, over_frequencies = (
        bootstrap_mean((scores[0] - baseline).sum(1), counts, resamples=resamples, generator=generator)
        for baseline in scores[1:]
    )
    return ForecastSkill(
        step=step,
        chunks=total,
        forecast=forecast,
        stationary=stationary,
        persistence=persistence,
        frequencies=frequencies,
        over_stationary=over_stationary,
        over_persistence=over_persistence,
        over_frequencies=over_frequencies,
    )
