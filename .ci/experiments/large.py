"""The larger tier, 22 to 66 million parameters on one CUDA device: a plan against its controls of equal size."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from evaluations import evaluation
from running import PLAIN, Run, cell, markdown, read

SEEDS = 3
SIZE = (
    *("model.token_dim=256", "model.hidden_dim=544", "model.num_layers=6", "model.executor.num_heads=8"),
    *("train.batch_size=64", "train.lr=0.001", "train.warmup_steps=200", "train.precision=bf16"),
)
"""22 million parameters in place of one, for the texts that need no network."""
CHANGES = {
    "wikitext2_cuda_fast": (),
    "tinystories_cuda_fast": (),
    "fineweb_edu_65m": (),
    "quickstart": (*SIZE, "train.max_steps=2000", "data.max_train_examples=80000"),
    "python_docs": (*SIZE, "model.dropout=0.1"),
}
"""Ends of the names of shipped configs, and what is changed in them; the last two, of storyworld and Python's
documentation, run offline and have a mixture of softmaxes, too."""
OFFLINE = ("quickstart", "python_docs")
MEASURES = ("plan_mi", "boundary_reset_delta_loss", "shuffled_belief_delta_loss")


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """All at once, where there is CUDA."""
    if not torch.cuda.is_available():
        raise SystemExit("this table is for a CUDA device, and PyTorch finds none here; real_text is its small form")
    yield [run for seed in seeds for text in CHANGES for run in runs(text, seed)]


def runs(text: str, seed: int) -> list[Run]:
    """The plan, the transformer and, of the texts that run offline, the mixture."""
    changes = ("device=cuda", *CHANGES[text])
    plan = Run(f"v2_{text}", text if text == "python_docs" else f"v2_{text}", changes, seed, PLAIN)
    controls = ("transformer_lm", "mixture_of_softmaxes") if text in OFFLINE else ("transformer_lm",)
    return [plan, *(Run(f"{control}_{text}", f"{control}_{text}", changes, seed) for control in controls)]


def table(seeds: Sequence[int], out: Path) -> str:
    """NLL of all, and what the plan's deltas are."""
    rows = []
    for text in CHANGES:
        folders = [[run.folder(out) for run in runs(text, seed)] for seed in seeds]
        each = [[read(folder, "metrics.json")["validation"]["nll"] for folder in row] for row in folders]
        found = [evaluation(row[0]) for row in folders]
        of_control = [[row[n] if n < len(row) else None for row in each] for n in (1, 2)]
        less = [[row[0] - row[n] if n < len(row) else None for row in each] for n in (1, 2)]
        cells = [cell(nll, ".4f") for nll in ([row[0] for row in each], *of_control)]
        deltas = [cell((one[key] for one in found), ".3f") for key in MEASURES]
        rows.append([text, *cells, *(cell(values, "+.4f") for values in less), *deltas])
    head = ["text", "v2, nats", "transformer", "mixture", "v2 less transformer", "v2 less mixture"]
    return markdown([*head, "MI", "boundary reset", "shuffled belief"], rows)
