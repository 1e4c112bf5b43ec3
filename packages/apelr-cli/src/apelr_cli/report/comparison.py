"""Several runs side by side: their figures, and their plan states matched on the same held-out text."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from apelr_cli.evaluation_text import TextRequest, find_text
from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.report.figures import used_states
from apelr_cli.report.run_files import RunFiles, read_run_files
from apelr_model import compare_plans, score, smooth_plans

__all__ = ["Comparison", "PlanMatch", "RunColumn", "compare_runs"]

Say = Callable[[str], None]

PASSAGES, LONGEST = 48, 256
"""Passages of held-out text on which plans are matched, and their most targets."""


class RunColumn(NamedTuple):
    """What is told of one run; None where it is not known."""

    name: str
    version: str | None
    source: str | None
    """Of the text."""
    step: int
    max_steps: int | None
    finished: bool
    parameters: int | None
    bits_per_byte: float | None
    nll: float | None
    """Nats per token of its own tokenizer."""
    tokens_per_second: float | None
    """Of training: the median over the logged steps."""
    plan_states: int | None
    used_states: float | None
    """exp(entropy of usage) on held-out text."""
    plan_mi: float | None
    uniform_delta: float | None
    """Change of the NLL where every plan state weighs the same. Here and below: above 0 the plan helps."""
    shuffled_delta: float | None
    """With beliefs of another row."""
    frozen_delta: float | None
    """With a belief that never changes."""
    reset_delta: float | None
    """With a belief that is forgotten at boundaries."""
    state_persistence: float | None
    known_plans_nmi: float | None
    """Of the likeliest state with the known plan, where the text has known ones."""


class PlanMatch(NamedTuple):
    """The plan states of two runs on the same text."""

    first: str
    second: str
    reason: str
    """Why they cannot be matched; empty where they are."""
    targets: int = 0
    normalized_mutual_info: float | None = None
    adjusted_rand: float | None = None
    agreement: float | None = None
    """Share of the targets at which both have matched states."""
    matching: tuple[int, ...] = ()
    """[K1] the second run's state for each of the first's; -1 for those left over."""
    table: tuple[tuple[float, ...], ...] = ()
    """[K1][K2] expected number of targets under both."""


class Comparison(NamedTuple):
    """Two runs or more."""

    columns: tuple[RunColumn, ...]
    notes: tuple[str, ...]
    """What keeps figures from being compared."""
    matches: tuple[PlanMatch, ...]
    """The first run with a chain of plans against each other one."""


def compare_runs(
    paths: Sequence[Path], *, device: str = "auto", with_plans: bool = True, say: Say
) -> tuple[Comparison, tuple[tuple[str, RunFiles], ...]]:
    """The runs in these folders, and each one's name with its files; `say` is told what takes long.

    Raises ValueError in one line as `read_run_files`, `load_model` and `find_text` do; the last two are asked only
    where at least two runs have plans to match, and `with_plans` is true.
    """
    files = [read_run_files(path) for path in paths]
    plain = [each.name for each in files]
    names = [name if plain.count(name) == 1 else str(each.path) for name, each in zip(plain, files, strict=True)]
    runs = tuple(zip(names, files, strict=True))
    columns = tuple(_column(name, each) for name, each in runs)
    matches = tuple(_matches(runs, device, say)) if with_plans else ()
    return Comparison(columns, tuple(_notes(runs)), matches), runs


def _column(name: str, files: RunFiles) -> RunColumn:
    found, planner = files.evaluation, files.planner
    usage = found.get("usage") or ()
    speeds = [line["tokens_per_second"] for line in files.of_kind("train") if line.get("tokens_per_second")]
    recovery = planner.get("recovery") or {"filtered": {}}
    several = len(usage) > 1
    return RunColumn(
        name,
        version=files.config.model.version if files.config else None,
        source=files.config.data.source if files.config else None,
        step=files.step,
        max_steps=files.max_steps,
        finished=files.is_finished,
        parameters=(files.about.get("parameters") or {}).get("total"),
        bits_per_byte=found.get("bits_per_byte"),
        nll=found.get("nll"),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        plan_states=len(usage) or None,
        used_states=used_states(usage) if several else None,
        plan_mi=found.get("plan_mi") if several else None,
        uniform_delta=planner.get("planner_mask_delta_loss"),
        shuffled_delta=planner.get("shuffled_belief_delta_loss"),
        frozen_delta=planner.get("frozen_delta_loss"),
        reset_delta=planner.get("boundary_reset_delta_loss"),
        state_persistence=planner.get("state_persistence"),
        known_plans_nmi=recovery["filtered"].get("normalized_mutual_info"),
    )


def _notes(runs: Sequence[tuple[str, RunFiles]]) -> Iterator[str]:
    for name, files in runs:
        if not files.is_finished:
            newest = "its figures are those of its newest evaluation, on a part of the held-out text"
            yield f"{name} is not finished: {newest}"
    sizes = {name: files.final["validation"]["text_bytes"] for name, files in runs if files.is_finished}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size is not None)
        yield f"the held-out texts differ (bytes: {told}): bits per byte cannot be compared across them"


def _matches(runs: Sequence[tuple[str, RunFiles]], device: str, say: Say) -> Iterator[PlanMatch]:
    chained = [name for name, files in runs if _has_plans(files)]
    if len(chained) < 2:
        return
    first = chained[0]
    say(f"matching plan states with those of {first}")
    loaded = load_model(dict(runs)[first].path, device)
    text = find_text(loaded, TextRequest(), say=say)
    passages = [passage.ids for passage in text.passages(PASSAGES, min(LONGEST, text.seq_len))]
    plans = _plans(loaded, passages)
    for name, files in runs:
        if name == first:
            continue
        if name not in chained:
            yield PlanMatch(first, name, "it has no chain of plans")
            continue
        other = load_model(files.path, device)
        if other.tokenizer.fingerprint != loaded.tokenizer.fingerprint:
            yield PlanMatch(first, name, "it has another tokenizer, so their tokens are not the same")
            continue
        found = compare_plans(plans, _plans(other, passages))
        yield PlanMatch(
            first,
            name,
            "",
            len(plans),
            found.normalized_mutual_info,
            found.adjusted_rand,
            found.accuracy,
            tuple(found.matching.tolist()),
            tuple(tuple(row) for row in found.table.tolist()),
        )


def _has_plans(files: RunFiles) -> bool:
    """Whether the run has a chain of two plan states or more."""
    model = files.config.model if files.config else None
    return hasattr(model, "chunk_size") and getattr(model, "num_plan_states", 1) > 1


@torch.no_grad()
def _plans(loaded: LoadedModel, passages: Sequence[list[int]]) -> Tensor:
    """-> [N, K] the plan of each target given its whole passage, probabilities."""
    found = []
    for ids in passages:
        trellis = score(loaded.model, ids, with_trellis=True).trellis
        assert trellis is not None, "it was asked for"
        found.append(trellis.at_targets(smooth_plans(trellis).log_posterior)[0].exp().cpu())
    return torch.cat(found)
