"""Plans of a known source, found again: likelihood, plans and transitions against the true model."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from evaluations import evaluation
from running import Run, cell, markdown

from apelr_cli.config_reader import load_run_config
from apelr_cli.row_batches import LANE_ROWS
from apelr_data import PlantedSource
from apelr_model import compare_plans

SEEDS = 5
SIZES = ((4, 4), (8, 8), (16, 16), (4, 8), (8, 16), (16, 32))
"""Plans of the source, plan states of the model."""
GOLD = ("--gold",)
AHEAD = (1, 2, 4)
"""Chunks that forecasts look ahead."""


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """All at once."""
    yield list(runs(seeds))


def runs(seeds: Sequence[int]) -> Iterator[Run]:
    """Every size with every seed, which also draws the source."""
    for seed in seeds:
        for plans, states in SIZES:
            sizes = (f"data.planted.num_plans={plans}", f"model.num_plan_states={states}")
            yield Run(f"{plans}-plans-{states}-states", "planted", sizes, seed, (GOLD,))


def table(seeds: Sequence[int], out: Path) -> str:
    """Means over the seeds, and how well the chain foretells gold plans."""
    head = [
        "K* plans",
        "K states",
        "NLL / true",
        "NMI",
        "true model's NMI",
        "transition rows, TV",
        "exp(usage entropy)",
        "states in use",
        "fewest",
    ]
    rows = []
    for plans, states in SIZES:
        each = [_measured(run, out) for run in runs(seeds) if run.name == f"{plans}-plans-{states}-states"]
        columns = zip(*each, strict=True)
        cells = [cell(c, ".4f" if n == 0 else ".3f") for n, c in enumerate(columns)]
        rows.append([str(plans), str(states), *cells, f"{min(measured[-1] or 0 for measured in each):.2f}"])
    return "\n".join([markdown(head, rows), _skills(seeds, out)])


def _skills(seeds: Sequence[int], out: Path) -> str:
    """Log score of the forecast over each baseline; in brackets the lowest end of a seed's 95 % interval."""
    rows = []
    for plans in (plans for plans, states in SIZES if plans == states):
        name = f"{plans}-plans-{plans}-states"
        found = [evaluation(run.folder(out), *GOLD)["lookahead_skill"] for run in runs(seeds) if run.name == name]
        cells = []
        for baseline in ("over_stationary", "over_persistence"):
            for ahead in AHEAD:
                skills = [each["steps"][ahead - 1][baseline] for each in found]
                low = min(skill["low"] for skill in skills)
                cells.append(f"{cell((skill['mean'] for skill in skills), '.2f')} ({low:.2f})")
        rows.append([str(plans), *cells])
    titles = [f"over {name}, {ahead} ahead" for name in ("stationary", "persistence") for ahead in AHEAD]
    return markdown(["K* plans", *titles], rows)


def _measured(run: Run, out: Path) -> tuple[float | None, ...]:
    """NLL over the true model's, NMI of both, largest distance of a row, exp(usage entropy), states in use.

    Usage is the mean belief; a state is in use as far as it is the likeliest after a chunk.
    """
    folder = run.folder(out)
    found = evaluation(folder, *GOLD)
    recovery = found["recovery"]
    true_nll, true_nmi = _true_model(folder)
    same_size = len(recovery["filtered"]["matching"]) == recovery["labels"]
    distance = recovery["transition"]["largest"] if same_size else None
    usage = [state["usage"] for state in found["states"]]
    spread = math.exp(-sum(share * math.log(share) for share in usage if share > 0))
    filtered = recovery["filtered"]
    nmi, used = filtered["normalized_mutual_info"], filtered["used_states"]
    return found["nll"] / true_nll, nmi, true_nmi, distance, spread, used


def _true_model(folder: Path) -> tuple[float, float]:
    """NLL in nats per symbol of the source itself, its belief carried as far as the model's, and its NMI."""
    config = load_run_config(folder / "config.yaml")
    assert config.data.planted is not None, "the config is of a planted source"
    source = PlantedSource(config.data.planted, seed=config.seed)
    stream = source.stream("validation")
    found = source.tables.filter(stream.symbols, row_length=LANE_ROWS * config.train.seq_len)
    chunks = source.tables.chunks(len(stream.symbols))
    last = torch.from_numpy(chunks).diff(append=torch.tensor([-1])) != 0
    beliefs, gold = torch.from_numpy(found.log_beliefs)[last], torch.from_numpy(stream.plans)[last]
    return found.nll, compare_plans(beliefs.argmax(-1), gold.long()).normalized_mutual_info
