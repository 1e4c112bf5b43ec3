"""From a checkpoint to a model that is ready for use, with the tokenizer that it was trained with."""

from pathlib import Path
from typing import NamedTuple

from apelr_cli.device import resolve_device
from apelr_model import Checkpoint, CheckpointError, PlannerLM, load_checkpoint
from apelr_tokenizers import Tokenizer, TokenizerError, tokenizer_from_text

__all__ = ["LoadedModel", "load_model", "stored_tokenizer"]


class LoadedModel(NamedTuple):
    """What sampling and scoring work with."""

    model: PlannerLM
    tokenizer: Tokenizer


def load_model(path: Path, device_name: str) -> LoadedModel:
    """Load a checkpoint file, or the newest one of a run folder, onto the named device (`auto` picks one).

    Raises ValueError (CheckpointError for everything about the file) with one line: a missing device, a file
    that cannot be read, a tokenizer that is missing, damaged or not the model's.
    """
    device = resolve_device(device_name)
    checkpoint = load_checkpoint(path)
    tokenizer = stored_tokenizer(checkpoint, path)
    return LoadedModel(checkpoint.build_model(device), tokenizer)


def stored_tokenizer(checkpoint: Checkpoint, path: Path) -> Tokenizer:
    """The tokenizer inside `checkpoint`; `path` is named in messages. Raises CheckpointError.

    The content must have the fingerprint that was recorded with it, and as many ids as the model has.
    """
    if checkpoint.tokenizer is None:
        raise CheckpointError(f"{path} carries no tokenizer: save the checkpoint with its tokenizer's content")
    try:
        tokenizer = tokenizer_from_text(checkpoint.tokenizer)
    except TokenizerError as error:
        raise CheckpointError(f"{path}: its tokenizer cannot be read: {error}") from error
    if tokenizer.fingerprint != checkpoint.tokenizer_fingerprint:
        raise CheckpointError(
            f"{path}: its tokenizer has the fingerprint {tokenizer.fingerprint}, but the model was trained with "
            f"{checkpoint.tokenizer_fingerprint}"
        )
    if tokenizer.vocab_size != checkpoint.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {tokenizer.vocab_size} ids, its model's vocabulary {checkpoint.vocab_size}"
        )
    return tokenizer
