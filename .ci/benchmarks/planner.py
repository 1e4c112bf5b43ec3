"""what the plan costs: filter, gate and evidence as a share of a training step, and forecasts while sampling"""

from collections.abc import Iterator
from functools import partial

import subjects
from measured import Row, Run, at_most

from apelr_cli.benchmark_subject import subject_of_config
from apelr_cli.benchmark_timing import Work
from apelr_cli.benchmark_works import decoding, evaluation, planner_part, random_batch, training_steps
from apelr_cli.shipped import find_config
from apelr_model import OptimConfig, planner_diagnostics

QUICKSTARTS = ("quickstart", "v2_quickstart")
TOKENS, AHEAD = 32, 8


def rows(run: Run) -> Iterator[Row]:
    """Shares and ratios."""
    works, limits = {}, {}
    for name in ("V1", "V2 dense"):
        model = subjects.make(name, subjects.GRU, subjects.GRU_VOCABULARY, run.device)
        batch = random_batch(model, subjects.GRU_ROWS, subjects.GRU_TARGETS)
        works |= pair(f"{name}, GRU 2 x 512", planner_part(model, OptimConfig(), batch), subjects.steps(model, batch))
        limits[f"{name}, GRU 2 x 512"] = 0.03
    for name in QUICKSTARTS:
        subject = subject_of_config(find_config(name), [], run.device.type)
        batch = random_batch(subject.model, subject.train.rows_per_step, subject.train.seq_len)
        step = training_steps(subject.model, subject.train, subject.train.weights, batch)
        works |= pair(name, planner_part(subject.model, subject.train, batch), step)
        limits[name] = 0.08
    times = run.time(works)
    for name, bound in limits.items():
        share = times.ratio(f"{name}: filter, gate, evidence", f"{name}: step")
        yield Row(f"{name}: filter, gate and evidence, of a training step", share, "%", at_most(bound))
    yield from forecasts(run)
    yield from diagnostics(run)


def pair(name: str, part: Work, step: Work) -> dict[str, Work]:
    """Works under their names."""
    return {f"{name}: filter, gate, evidence": part, f"{name}: step": step}


def forecasts(run: Run) -> Iterator[Row]:
    """Sampling with forecasts of the plan beside sampling without."""
    model = subjects.make("V2 dense", subjects.GRU, subjects.GRU_VOCABULARY, run.device)
    for count in (1, 8):
        title = f"sampling, {count} row(s)"
        sampled = partial(decoding, model, count, TOKENS, prompts=[[1, 2, 3]] * count)
        works = {
            f"{title}, no forecasts": sampled(),
            f"{title}, with each token": sampled(lookahead_steps=AHEAD),
            f"{title}, beside the tokens": sampled(lookahead_steps=AHEAD, async_lookahead=True),
        }
        times = run.time(works)
        first, *others = works
        for other in others:
            yield Row(f"{other}, {AHEAD} chunks ahead, beside none", times.ratio(other, first))


def diagnostics(run: Run) -> Iterator[Row]:
    """An evaluation with every diagnostic beside one of the likelihood alone."""
    model = subjects.make("V2 dense", subjects.GRU, subjects.GRU_VOCABULARY, run.device)
    batch = random_batch(model, subjects.GRU_ROWS, subjects.GRU_TARGETS)
    times = run.time({"NLL": evaluation(model, batch), "all": lambda: planner_diagnostics(model, [batch])})
    yield Row("evaluation of V2 dense with all diagnostics, beside the NLL alone", times.ratio("all", "NLL"))
