"""The figures that a report opens with, and its tables of settings: names, values and a word on each."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from apelr_cli.report.run_files import RunFiles
from apelr_cli.shown import shown

__all__ = ["Fact", "Table", "config_tables", "environment_tables", "headline", "key_figures", "used_states"]


class Fact(NamedTuple):
    """One figure."""

    name: str
    value: str
    note: str = ""


class Table(NamedTuple):
    """Names and values under a title."""

    title: str
    rows: tuple[tuple[str, str], ...]


def headline(files: RunFiles, version: str, states: int, step: int) -> str:
    """What the run is, in one line."""
    chunk = getattr(files.config.model, "chunk_size", None) if files.config else None
    parts = [version]
    if states > 1:
        parts.append(f"{states} plan states" + (f", chunks of {chunk} tokens" if chunk else ""))
    total = (files.about.get("parameters") or {}).get("total")
    if total:
        parts.append(f"{total / 1e6:.2f} million parameters" if total >= 10_000 else f"{total:,.0f} parameters")
    if files.config:
        parts.append(f"trained on {files.config.data.source}")
    of = f" of {files.max_steps:,}" if files.max_steps else ""
    parts.append(f"step {step:,}{of}, {'finished' if files.is_finished else 'not finished'}")
    return " · ".join(parts)


def key_figures(files: RunFiles, planner: Mapping[str, Any]) -> Iterator[Fact]:
    """What one looks for first; of each what there is."""
    found = files.evaluation
    part = "all held-out text" if files.is_finished else "a part of the held-out text"
    if found.get("bits_per_byte") is not None:
        yield Fact("bits per byte", f"{found['bits_per_byte']:.3f}", part)
    if found.get("nll") is not None:
        perplexity = found.get("perplexity")
        note = "" if perplexity is None else f"perplexity {perplexity:,.1f}"
        yield Fact("nats per token", f"{found['nll']:.3f}", note)
    if len(found.get("usage") or ()) > 1:
        usage = found["usage"]
        yield Fact("states in use", f"{used_states(usage):.1f}", f"of {len(usage)}: exp of the entropy of usage")
        yield Fact("plan MI", f"{found['plan_mi']:.3f}", "nats a token that the plan says of the next one")
    if planner.get("planner_mask_delta_loss") is not None:
        worth = f"{planner['planner_mask_delta_loss']:+.3f}"
        yield Fact("worth of the plan", worth, "nats a token lost when all states weigh the same")
    if planner.get("recovery"):
        agreement = planner["recovery"]["filtered"]
        note = "NMI of the most likely state with the plan that the text was written under, 0 to 1"
        yield Fact("known plans found", f"{agreement['normalized_mutual_info']:.2f}", note)


def used_states(usage: Sequence[float]) -> float:
    """exp(entropy) of the shares: how many states the usage amounts to."""
    return math.exp(-sum(share * math.log(share) for share in usage if share > 0))


def config_tables(config: Mapping[str, Any]) -> Iterator[Table]:
    """A run's config, section by section; keys of no section come first."""
    top = tuple((key, shown(value)) for key, value in config.items() if not isinstance(value, Mapping))
    if top:
        yield Table("run", top)
    for section, values in config.items():
        if isinstance(values, Mapping):
            yield Table(section, tuple(_flat(values, "")))


def environment_tables(files: RunFiles) -> Iterator[Table]:
    """What run.json says, by its parts."""
    about = files.about
    rows = [("folder", files.name)]
    for key in ("command", "platform", "device", "processes", "git_revision", "vocab_size", "seed"):
        if about.get(key) is not None:
            value = about[key]
            rows.append((key.replace("_", " "), " ".join(map(str, value)) if isinstance(value, list) else str(value)))
    taken_up = [str(each.get("step")) for each in about.get("continued") or ()]
    if taken_up:
        rows.append(("taken up at step", ", ".join(taken_up)))
    yield Table("where and how", tuple(rows))
    titles = {"versions": "versions", "parameters": "parameters", "flops_per_token": "FLOPs a token", "data": "ids"}
    for key, title in {**titles, "text": "text that was read"}.items():
        if about.get(key):
            yield Table(title, tuple(_flat(about[key], "")))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= 10_000:
            yield f"{prefix}{key}", f"{value:,.0f}"
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else shown(value)
