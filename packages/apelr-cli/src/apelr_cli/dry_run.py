"""What `apelr train --dry-run` prints: sizes and intentions, from the config alone."""

from collections.abc import Iterator
from pathlib import Path

import torch

from apelr_cli.run_config import RunConfig
from apelr_cli.run_folder import RunFolder
from apelr_cli.training_run import count_parameters
from apelr_model import build_model

__all__ = ["describe_run"]


def describe_run(config: RunConfig, folder: RunFolder, device: torch.device, resume: str | None) -> Iterator[str]:
    """The lines of a dry run. Takes no memory for parameters, opens no file for writing and asks no network."""
    train, data = config.train, config.data
    vocab_size = config.tokenizer.vocab_size
    with torch.device("meta"):
        model = build_model(config.model, vocab_size)
    parts = {name: count_parameters(part) for name, part in model.named_children()}
    yield f"model      {config.model.version}: {sum(parts.values()):,} parameters with a vocabulary of {vocab_size:,}"
    yield "           " + ", ".join(f"{name} {count:,}" for name, count in parts.items())
    yield f"           {config.model.num_plan_states} plan states, chunks of {config.model.chunk_size} tokens"
    yield f"tokenizer  {config.tokenizer.type}, at most {vocab_size:,} ids, fitted on the training text"
    yield f"data       {data.source}" + (f" from {data.path}" if data.path else "")
    targets = train.batch_size * train.seq_len
    yield (
        f"training   steps to {train.max_steps:,}, {train.batch_size} rows of {train.seq_len} targets each: "
        f"{targets:,} targets a step, {targets * train.max_steps:,} in all"
    )
    yield f"           {train.grad_accum_steps} micro-batch(es) a step, {train.precision}, on {device}"
    yield f"folder     {folder.path}: {_intention(folder, resume)}"
    if train.resume_from:
        there = "" if Path(train.resume_from).exists() else " (warning: it is not there)"
        yield f"starts     from {train.resume_from}{there}"


def _intention(folder: RunFolder, resume: str | None) -> str:
    if resume == "auto":
        return (
            "would go on from its newest checkpoint" if folder.checkpoint.exists() else "nothing to resume, would start"
        )
    if resume:
        return f"would go on from {resume}"
    if folder.path.is_dir() and any(folder.path.iterdir()):
        return "is not empty: would need --resume auto or --force"
    return "would be made"
