"""The larger tier, 25 and 66 million parameters on one CUDA device: a plan against its transformer of equal size."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from running import Run, cell, evaluation, markdown, read

SEEDS = 3
TEXTS = ("wikitext2_cuda_fast", "tinystories_cuda_fast", "fineweb_edu_65m")
"""Ends of the names of shipped configs; each begins with v2 and, for the control, with transformer_lm."""
MEASURES = ("plan_mi", "boundary_reset_delta_loss", "shuffled_belief_delta_loss")


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """All at once, where there is CUDA."""
    if not torch.cuda.is_available():
        raise SystemExit("this table is for a CUDA device, and PyTorch finds none here; real_text is its small form")
    yield [run for seed in seeds for text in TEXTS for run in runs(text, seed)]


def runs(text: str, seed: int) -> list[Run]:
    """The plan and its control."""
    return [
        Run(f"{version}_{text}", f"{version}_{text}", ("device=cuda",), seed) for version in ("v2", "transformer_lm")
    ]


def table(seeds: Sequence[int], out: Path) -> str:
    """NLL of both, and what the plan's deltas are."""
    rows = []
    for text in TEXTS:
        pairs = [[run.folder(out) for run in runs(text, seed)] for seed in seeds]
        nll = [[read(folder, "metrics.json")["validation"]["nll"] for folder in pair] for pair in pairs]
        found = [evaluation(plan) for plan, _ in pairs]
        less = cell((plan - control for plan, control in nll), "+.4f")
        both = [cell(each, ".4f") for each in zip(*nll, strict=True)]
        rows.append([text, *both, less, *(cell((each[key] for each in found), ".3f") for key in MEASURES)])
    return markdown(["text", "v2, nats", "transformer", "v2 less it", "MI", "boundary reset", "shuffled belief"], rows)
