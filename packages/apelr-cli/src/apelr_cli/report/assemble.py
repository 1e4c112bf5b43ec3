"""All that a report shows, as data: read from the run's files, and computed from its newest checkpoint where not."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apelr_cli.evaluation_output import planner_report
from apelr_cli.evaluation_text import EvaluationText, TextRequest, find_text
from apelr_cli.gold_output import recovery_report
from apelr_cli.known_plans import KnownPlans
from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.plan_choice import has_chain
from apelr_cli.report.curves import Chart, UsageChart, run_charts, usage_chart
from apelr_cli.report.figures import Fact, Table, config_tables, environment_tables, headline, key_figures
from apelr_cli.report.passages import Passage, read_passages
from apelr_cli.report.run_files import RunFiles, read_run_files
from apelr_cli.report.states import StateCard, plan_title, state_cards, write_under_states
from apelr_cli.run_config import to_plain
from apelr_model import read_gold_chunks

__all__ = ["ReportData", "assemble_report"]

Say = Callable[[str], None]
Report = Mapping[str, Any]

BATCHES = 4
"""Batches that an unfinished run's planner is looked at on, where its config does not say."""


class ReportData(NamedTuple):
    """One run."""

    title: str
    headline: str
    figures: tuple[Fact, ...]
    charts: tuple[Chart, ...]
    usage: UsageChart | None
    num_states: int
    """K; 1 without a plan."""
    planner: Report
    """As `planner_eval.json`; empty without held-out text in an unfinished run."""
    planner_step: int
    """The step that it is of."""
    cards: tuple[StateCard, ...]
    """The most used state first; empty without plan states to tell apart."""
    transition: tuple[tuple[float, ...], ...]
    """[K][K] probabilities; empty without a chain of plans."""
    initial: tuple[float, ...]
    """[K] probabilities at a document's beginning; empty without a chain of plans."""
    passages: tuple[Passage, ...]
    text_name: str
    plan_names: tuple[str, ...]
    """Of the known plans that the passages' targets are labelled with."""
    splits: tuple[Mapping[str, Any], ...]
    """Idle states that became copies of others, as in metrics.jsonl."""
    settings: tuple[Table, ...]
    environment: tuple[Table, ...]


def assemble_report(
    path: Path, *, device: str = "auto", overrides: Sequence[str] = (), with_text: bool = True, say: Say
) -> ReportData:
    """Everything about the run in the folder `path`; `say` is told what takes long.

    `overrides` change the held-out text as in `apelr eval`; without `with_text` none is read. Raises RunError,
    CheckpointError, ConfigError, DataError and InputError: ValueErrors that say what is wrong in a line.
    """
    files = read_run_files(path)
    loaded = load_model(path, device)
    text, known = None, None
    if with_text:
        text = find_text(loaded, TextRequest(overrides=tuple(overrides)), say=say)
        known = _known_plans(loaded, text)
    planner = files.planner if files.planner.get("step") == loaded.step else {}
    if not planner and text is not None:
        say(f"looking at the planner of step {loaded.step}")
        planner = _planner(loaded, files, text, known)
    say("reading held-out text and writing under each plan state" if text else "writing under each plan state")
    cards = write_under_states(loaded, state_cards(planner), seed=_seed(files), beats=_is_storyworld(files))
    passages = () if text is None else read_passages(loaded, text, None if known is None else known.labels)
    model, chained = loaded.model, has_chain(loaded.model)
    settings = to_plain(files.config) if files.config else loaded.run_config
    return ReportData(
        title=files.name,
        headline=headline(files, model.config.version, model.num_plan_states, loaded.step),
        figures=tuple(key_figures(files, planner)),
        charts=run_charts(files),
        usage=usage_chart(files),
        num_states=model.num_plan_states,
        planner=planner,
        planner_step=loaded.step,
        cards=cards,
        transition=_rows(model.log_transition().exp().tolist()) if chained else (),
        initial=tuple(model.initial_state(1).log_belief[0].exp().tolist()) if chained else (),
        passages=passages,
        text_name="" if text is None else text.name,
        plan_names=() if known is None else tuple(map(plan_title, known.names)),
        splits=tuple(files.of_kind("split")),
        settings=tuple(config_tables(settings)),
        environment=tuple(environment_tables(files)),
    )


def _known_plans(loaded: LoadedModel, text: EvaluationText) -> KnownPlans | None:
    """The plans that the text was written under, where its corpus knows them and the model has any."""
    names = text.origin is not None and text.origin.corpus.plan_names
    wanted = names and has_chain(loaded.model) and loaded.model.num_plan_states > 1
    return text.known_plans(loaded.model.chunks) if wanted else None


def _planner(loaded: LoadedModel, files: RunFiles, text: EvaluationText, known: KnownPlans | None) -> Report:
    """What a finished run has in planner_eval.json, on as much text as there."""
    limit = files.config.train.val_batches if files.config else BATCHES
    found = planner_report(loaded.model, itertools.islice(text.batches(), limit), loaded.tokenizer)
    if known is None:
        return found
    chunks = read_gold_chunks(loaded.model, itertools.islice(text.labelled_batches(known), limit))
    return {**found, "recovery": recovery_report(chunks, known.names, true_transition=known.true_transition)}


def _seed(files: RunFiles) -> int:
    return files.config.seed if files.config else 0


def _is_storyworld(files: RunFiles) -> bool:
    return files.config is not None and files.config.data.source == "storyworld"


def _rows(values: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values)
