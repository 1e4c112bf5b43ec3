"""Checkpoints: one self-contained file per save, written so that a complete one always exists.

A file is `torch.save`'s zip archive of plain data and tensors, read back with `weights_only=True` and nothing
else. The archive's own CRC-32 of every record is its checksum: it is verified before a new file gets its
name, and before a file is read. Files of the prototype are read too. Layout, guarantees: docs/checkpoints.md.
"""

import os
import platform
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from apelr_model.archive import DAMAGE, flush_folder, link_or_copy, named_errors, read_pickle, verify_archive
from apelr_model.build import build_model
from apelr_model.checkpoint_checks import (
    FORMAT,
    FORMAT_VERSION,
    check_content,
    check_finite,
    compare_tensors,
    expected_tensors,
    without_unexpected,
)
from apelr_model.checkpoint_files import (
    LATEST_NAME,
    find_checkpoint,
    newest_name,
    remove_interrupted,
    remove_old_checkpoints,
    remove_other_form,
    step_path,
)
from apelr_model.config import ModelConfig
from apelr_model.errors import CheckpointError
from apelr_model.plain_pickle import check_pickle
from apelr_model.planner_lm import PlannerLM
from apelr_model.prototype import RecordedTokenizer, is_prototype, read_prototype
from apelr_model.sharded_checkpoint import read_shards, save_shards
from apelr_model.shown import one_line
from apelr_model.tensor_tree import copied_tree
from apelr_model.world import World

__all__ = ["Checkpoint", "checkpoint_content", "load_checkpoint", "save_checkpoint", "write_checkpoint"]


def _library_versions() -> dict[str, str]:
    return {"torch": str(torch.__version__), "python": platform.python_version()}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that sampling, scoring and continuing a run need."""

    model_config: ModelConfig
    """Architecture and sizes."""
    vocab_size: int
    """V; must be the tokenizer's."""
    step: int
    """Optimizer steps made."""
    model: dict[str, Tensor]
    """The model's parameters by name."""
    training: dict[str, Any] | None = None
    """Optimizer, scaler and RNG states; None in a file that is for use only."""
    tokenizer: str | None = None
    """The tokenizer file's content, opaque to this package."""
    tokenizer_fingerprint: str | None = None
    """The tokenizer's own content fingerprint."""
    run_config: dict[str, Any] = field(default_factory=dict)
    """The resolved run configuration as plain data."""
    versions: dict[str, str] = field(default_factory=_library_versions)
    """Versions of the libraries that wrote the file."""
    recorded_tokenizer: RecordedTokenizer | None = None
    """What a file of the prototype says of its tokenizer, which it does not carry; None for files of today."""
    notices: tuple[str, ...] = ()
    """What whoever uses the file should be told, a line each; not saved."""
    training_notices: tuple[str, ...] = ()
    """What whoever trains on should be told beside that, a line each; not saved."""

    def check_fits(self, config: ModelConfig, where: str) -> None:
        """Raise CheckpointError, naming `where` and the tensor, unless the parameters fit a model of that config."""
        expected = expected_tensors(config, self.vocab_size, len(self.model), where)
        compare_tensors(self.model, expected, where)

    def copied(self) -> "Checkpoint":
        """The same with tensors on the CPU that nothing else refers to: what is changed later is not changed in it."""
        model, training = copied_tree((self.model, self.training))
        return replace(self, model=model, training=training)

    def build_model(self, device: torch.device | str = "cpu") -> PlannerLM:
        """The model with the stored parameters, on `device`."""
        model = build_model(self.model_config, self.vocab_size)
        dtype = next(iter(self.model.values())).dtype
        model.to(dtype=dtype).load_state_dict(self.model, strict=True)
        return model.to(device)


def save_checkpoint(
    run_dir: Path,
    checkpoint: Checkpoint,
    *,
    keep: int | None = None,
    validation_nll: Mapping[int, float] | None = None,
    shards: World | None = None,
) -> Path:
    """Write `run_dir/checkpoints/step-<8 digits>.pt`, then make `run_dir/checkpoint.pt` the same file; its path.

    With `shards` all of its processes call this, each with the same checkpoint or its own parts of the tensors, and it
    is a folder, `step-<8 digits>/`, that is written, to which `run_dir/checkpoint.json` then points.

    Temporary name, flush to disk, checksum, rename, folder flush: at any instant every name holds a complete
    checkpoint or none. Where anything fails the temporary file is removed and older files are intact: OSError,
    NonFiniteError for a state with NaN or infinity, CheckpointError where what reached the disk is damaged. Then, where
    `keep` is a number (>= 2), older files are removed but the `keep` newest, this one counted in, and the one with the
    lowest of `validation_nll`, by step.
    """
    if shards is None:
        path = _save_file(run_dir, checkpoint)
    else:
        path = save_shards(run_dir, checkpoint_content(checkpoint), shards)
    if shards is None or shards.is_first:
        remove_other_form(path)
        remove_old_checkpoints(run_dir, checkpoint.step, keep, validation_nll or {})
    return path


def _save_file(run_dir: Path, checkpoint: Checkpoint) -> Path:
    path = step_path(run_dir, checkpoint.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".pt.tmp")
    remove_interrupted(run_dir)
    try:
        _write(path, temporary, checkpoint)
        link_or_copy(path, temporary)
        temporary.replace(run_dir / LATEST_NAME)
        if (newest := newest_name(run_dir)).name != LATEST_NAME:
            newest.unlink()  # the folder that it points to is no longer the newest
        flush_folder(run_dir)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one checkpoint file under any name, in place of what is there; complete or not at all, as a save is.

    It names the versions of the libraries that write it, whatever `checkpoint` was read from. Raises OSError;
    NonFiniteError for a state with NaN or infinity; CheckpointError where what reached the disk is damaged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        _write(path, temporary, replace(checkpoint, versions=_library_versions()))
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, temporary: Path, checkpoint: Checkpoint) -> None:
    """Write and verify under the temporary name, then give the file its own. Nothing is begun that holds NaN."""
    check_finite(checkpoint.model, checkpoint.training, f"{path} is not written")
    with named_errors(path), temporary.open("wb") as file:
        try:
            torch.save(checkpoint_content(checkpoint), file)
        except RuntimeError as error:  # torch ends its archive even after an error of the disk, and fails once more
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        file.flush()
        os.fsync(file.fileno())
    try:
        verify_archive(temporary)
    except BadZipFile as error:
        raise CheckpointError(f"{path} was not written: what reached the disk is damaged ({error})") from error
    temporary.replace(path)
    flush_folder(path.parent)


def load_checkpoint(path: Path, *, allow_unexpected: bool = False) -> Checkpoint:
    """Read a checkpoint, or the newest one of a run folder, onto the CPU: a file, the prototype's as well, or a folder.

    Of a sharded checkpoint's folder the tensors are put together, whatever number of processes has written it. With
    `allow_unexpected`, tensors that the model does not have are left out, with a notice.
    Raises CheckpointError with one line naming the file: not found, not a checkpoint, damaged, of a newer
    format or unknown model version, or tensors that disagree with the file's own config.
    """
    path = find_checkpoint(path)
    content = read_shards(path) if path.is_dir() else _read(path)
    if is_prototype(content):
        values = read_prototype(content, str(path), allow_unexpected=allow_unexpected)
        config = values.pop("model_config")
    else:
        config, values = check_content(content, str(path))
        if allow_unexpected:
            values |= without_unexpected(config, values, str(path))
    checkpoint = Checkpoint(model_config=config, **values)
    checkpoint.check_fits(config, str(path))
    return checkpoint


def _read(path: Path) -> Any:
    """The content of a file; nothing in it is executed, and no more memory is taken than the file is large."""
    try:
        verify_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what damage does to a pickle there is one line to say, not two
            check_pickle(read_pickle(path))
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = f"it holds something other than plain data and tensors: {one_line(str(error))}"
        raise CheckpointError(f"{path} is refused: {reason}") from error
    except DAMAGE as error:
        reason = one_line(str(error)) or type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint or is damaged: {reason}") from error


def checkpoint_content(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything that a file holds, by key."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_version": checkpoint.model_config.version,
        "model_config": asdict(checkpoint.model_config),
        "vocab_size": checkpoint.vocab_size,
        "step": checkpoint.step,
        "model": checkpoint.model,
        "training": checkpoint.training,
        "tokenizer": checkpoint.tokenizer,
        "tokenizer_fingerprint": checkpoint.tokenizer_fingerprint,
        "run_config": checkpoint.run_config,
        "versions": checkpoint.versions,
    }
