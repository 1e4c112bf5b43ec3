"""Reading a checkpoint of any form and writing it as one of today's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from apelr_cli.exported import is_exported, load_exported
from apelr_cli.model_tokenizer import find_tokenizer
from apelr_model import CheckpointError, load_checkpoint, write_checkpoint

__all__ = ["convert_checkpoint"]


def convert_checkpoint(
    source: Path, destination: Path, tokenizer: Path | None, *, allow_unexpected: bool, force: bool
) -> Iterator[str]:
    """Write `source` as `destination`; the lines that say what was done. Warnings go to standard error.

    Raises CheckpointError where the source cannot be read, or the destination is there (unless `force`), is a folder,
    or its folder is not there.
    """
    if destination.is_dir():
        raise CheckpointError(f"{destination} is a folder: name a file")
    if destination.exists() and not force:
        raise CheckpointError(f"{destination} exists: --force replaces it")
    if not destination.parent.is_dir():
        raise CheckpointError(f"the folder {destination.parent} does not exist")
    exported = is_exported(source)
    checkpoint = (load_exported if exported else load_checkpoint)(source, allow_unexpected=allow_unexpected)
    found = find_tokenizer(checkpoint, source, tokenizer)
    for notice in (*checkpoint.notices, *checkpoint.training_notices, *found.notices):
        click.echo(f"Warning: {notice}", err=True)
    form = "today's form" if checkpoint.recorded_tokenizer is None else "the prototype's form"
    form = "an export" if exported else form
    yield f"read {source}: {form}, {checkpoint.model_config.version}, step {checkpoint.step}"
    carried = replace(
        checkpoint, tokenizer=found.tokenizer.to_text(), tokenizer_fingerprint=found.tokenizer.fingerprint
    )
    write_checkpoint(destination, carried)
    state = "with its training state" if carried.training else "for use only: there is no training state"
    yield f"wrote {destination}: with its tokenizer of {found.tokenizer.vocab_size:,} ids, {state}"
