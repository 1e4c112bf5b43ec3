"""A checkpoint in two parts that other formats can hold: a description in plain data, and tensors by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from apelr_model.checkpoint import Checkpoint, checkpoint_content
from apelr_model.checkpoint_checks import check_content, without_unexpected
from apelr_model.config import ModelConfig, TransformerLMConfig, V1Config
from apelr_model.errors import CheckpointError

__all__ = ["checkpoint_from_parts", "describe_checkpoint", "portable_tensors", "tied_tensors"]

LEFT_OUT = ("model", "training", "tokenizer")
"""What a description does not hold: tensors, the state of training, and the tokenizer's file."""


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of itself, in plain data; without its tensors, training state and tokenizer."""
    return {key: value for key, value in checkpoint_content(checkpoint).items() if key not in LEFT_OUT}


def portable_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The parameters by name; of tied ones, which are one tensor, the embedding alone.

    Raises CheckpointError where tied ones differ.
    """
    tied = tied_tensors(checkpoint.model_config)
    for left, kept in tied:
        if not torch.equal(checkpoint.model[left], checkpoint.model[kept]):
            raise CheckpointError(f"the tensors {left} and {kept} are tied and must be equal")
    left_out = {left for left, _ in tied}
    return {name: tensor.contiguous() for name, tensor in checkpoint.model.items() if name not in left_out}


def checkpoint_from_parts(
    description: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    tokenizer: str | None = None,
    allow_unexpected: bool = False,
) -> Checkpoint:
    """The checkpoint of `describe_checkpoint` and `portable_tensors`, with a tokenizer file's content; for use only.

    Every rule of a checkpoint file holds: raises CheckpointError, naming `where` and the key or tensor. With
    `allow_unexpected`, tensors that the model does not have are left out, with a notice.
    """
    config, values = check_content(
        {**description, "model": dict(tensors), "training": None, "tokenizer": tokenizer}, where
    )
    for left, kept in tied_tensors(config):
        if kept in values["model"]:
            values["model"].setdefault(left, values["model"][kept])
    if allow_unexpected:
        values |= without_unexpected(config, values, where)
    checkpoint = Checkpoint(model_config=config, **values)
    checkpoint.check_fits(config, where)
    return checkpoint


def tied_tensors(config: ModelConfig) -> list[tuple[str, str]]:
    """Names of parameters that are one tensor: what may be left out, and what is kept."""
    if not isinstance(config, V1Config | TransformerLMConfig) or not config.tie_embeddings:
        return []
    projection = "head.out_proj.weight" if isinstance(config, V1Config) else "head.weight"
    return [(projection, "executor.token_emb.weight")]
