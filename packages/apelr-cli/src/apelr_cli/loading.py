"""From a checkpoint to a model that is ready for use, with the tokenizer that it was trained with."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import click

from apelr_cli.device import resolve_device
from apelr_cli.model_tokenizer import find_tokenizer
from apelr_model import PlannerLM, load_checkpoint
from apelr_tokenizers import Tokenizer

__all__ = ["LoadedModel", "load_model"]


class LoadedModel(NamedTuple):
    """What sampling, scoring and evaluation work with."""

    model: PlannerLM
    tokenizer: Tokenizer
    run_config: Mapping[str, Any] = MappingProxyType({})
    """The config of the run that made it, as plain data; empty where the file does not say."""
    step: int = 0
    """Optimizer steps that it has had."""


def load_model(
    path: Path,
    device_name: str,
    *,
    tokenizer: Path | None = None,
    allow_unexpected: bool = False,
    weights: Literal["fp32", "bf16", "int8"] = "fp32",
) -> LoadedModel:
    """Load a checkpoint file, or the newest one of a run folder, onto the named device (`auto` picks one).

    `tokenizer` and `allow_unexpected` are for files that need them (docs/checkpoints.md). `weights` is what the weights
    are kept in: fp32 as the file has them, bf16 or int8. What the user should know of the file goes to standard error,
    a line each. Raises ValueError (CheckpointError for everything about the file) with one line: a missing device, a
    file that cannot be read, a tokenizer that is missing, damaged or not the model's.
    """
    device = resolve_device(device_name)
    checkpoint = load_checkpoint(path, allow_unexpected=allow_unexpected)
    found = find_tokenizer(checkpoint, path, tokenizer)
    for notice in (*checkpoint.notices, *found.notices):
        click.echo(f"Warning: {notice}", err=True)
    model = checkpoint.build_model(device)
    if weights != "fp32":
        model.keep_weights(weights)
    return LoadedModel(model, found.tokenizer, checkpoint.run_config, checkpoint.step)
