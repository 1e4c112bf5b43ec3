"""A checkpoint as a folder that other programs read: safetensors with plain JSON, or what transformers loads."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click
from safetensors.torch import save_file

from apelr_cli.exported import CONFIG, DESCRIPTION, OWN_TOKENIZER, TOKENIZER, WEIGHTS, is_exported
from apelr_cli.model_tokenizer import find_tokenizer
from apelr_model import (
    Checkpoint,
    CheckpointError,
    describe_checkpoint,
    load_checkpoint,
    new_folder,
    portable_tensors,
)
from apelr_tokenizers import Tokenizer

__all__ = ["ExportForm", "export_checkpoint"]

ExportForm = Literal["hf", "safetensors"]

MISSING = "transformers is not installed; install it with: pip install 'apelr-cli[transformers]'"


def export_checkpoint(
    source: Path,
    destination: Path,
    form: ExportForm,
    *,
    tokenizer: Path | None,
    allow_unexpected: bool,
    force: bool,
) -> Iterator[str]:
    """Write `source` as the new folder `destination`; the lines that say what was done. Warnings go to standard error.

    Raises CheckpointError where the source cannot be read, transformers is needed and missing, or the destination is
    there: with `force` only where it is no export.
    """
    if form == "hf" and find_spec("transformers") is None:
        raise CheckpointError(MISSING)
    if destination.exists() and not force:
        raise CheckpointError(f"{destination} exists: --force replaces an earlier export")
    if destination.exists() and not is_exported(destination):
        raise CheckpointError(f"{destination} is no export of ours: remove it first, --force does not")
    if not destination.parent.is_dir():
        raise CheckpointError(f"the folder {destination.parent} does not exist")
    checkpoint = load_checkpoint(source, allow_unexpected=allow_unexpected)
    found = find_tokenizer(checkpoint, source, tokenizer)
    for notice in (*checkpoint.notices, *found.notices):
        click.echo(f"Warning: {notice}", err=True)
    yield f"read {source}: {checkpoint.model_config.version}, step {checkpoint.step}"
    checkpoint = replace(checkpoint, tokenizer_fingerprint=found.tokenizer.fingerprint)
    with new_folder(destination, replace=force) as partial:
        write = _write_transformers if form == "hf" else _write_safetensors
        write(partial, checkpoint, found.tokenizer)
    yield f"wrote {destination}: {form}, with its tokenizer of {found.tokenizer.vocab_size:,} ids"


def _write_safetensors(folder: Path, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    save_file(portable_tensors(checkpoint), folder / WEIGHTS, metadata={"format": "pt"})
    config = {DESCRIPTION: describe_checkpoint(checkpoint)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    tokenizer.save(folder / TOKENIZER)


def _write_transformers(folder: Path, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    from transformers.utils import logging

    from apelr_model.hf import ApelrForCausalLM
    from apelr_tokenizers.hf import fast_tokenizer

    logging.disable_progress_bar()
    fast = fast_tokenizer(tokenizer)
    model = ApelrForCausalLM.from_checkpoint(
        checkpoint,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    tokenizer.save(folder / OWN_TOKENIZER)
