"""Checkpoints: one self-contained file per save, written so that a complete one always exists.

A file is `torch.save`'s zip archive of plain data and tensors, read back with `weights_only=True` and nothing
else. The archive's own CRC-32 of every record is its checksum: it is verified before a new file gets its
name, and before a file is read. Layout and guarantees: docs/checkpoints.md.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from apelr_model.archive import DAMAGE, flush_folder, link_or_copy, verify_archive
from apelr_model.config import ModelConfig, V1Config
from apelr_model.errors import CheckpointError
from apelr_model.planner_lm import PlannerLM, build_model

__all__ = ["FORMAT_VERSION", "Checkpoint", "compare_tensors", "load_checkpoint", "save_checkpoint"]

FORMAT = "apelr-checkpoint"
FORMAT_VERSION = 1
"""The newest file format this package reads, and the one it writes."""

LATEST_NAME = "checkpoint.pt"
CONFIGS: dict[str, type[ModelConfig]] = {"v1_filtered_mixture": V1Config}


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
    versions: dict[str, str] = field(
        default_factory=lambda: {"torch": str(torch.__version__), "python": platform.python_version()}
    )
    """Versions of the libraries that wrote the file."""

    def build_model(self, device: torch.device | str = "cpu") -> PlannerLM:
        """The model with the stored parameters, on `device`."""
        model = build_model(self.model_config, self.vocab_size)
        dtype = self.model["planner.initial_logits"].dtype
        model.to(dtype=dtype).load_state_dict(self.model, strict=True)
        return model.to(device)


def save_checkpoint(run_dir: Path, checkpoint: Checkpoint) -> Path:
    """Write `run_dir/checkpoints/step-<8 digits>.pt`, then make `run_dir/checkpoint.pt` the same file; its path.

    Temporary name, flush to disk, checksum, rename, folder flush: at any instant every name holds a complete
    checkpoint or none. Where anything fails (OSError; CheckpointError where what reached the disk is damaged) the
    temporary file is removed and older files are intact.
    """
    folder = run_dir / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:08d}.pt"
    temporary = path.with_suffix(".pt.tmp")
    temporary.unlink(missing_ok=True)  # a killed save may have left it as a second name of a complete file
    try:
        with temporary.open("wb") as file:
            torch.save(_to_content(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            verify_archive(temporary)
        except BadZipFile as error:
            raise CheckpointError(f"{path} was not written: what reached the disk is damaged ({error})") from error
        temporary.replace(path)
        flush_folder(folder)
        link_or_copy(path, temporary)
        temporary.replace(run_dir / LATEST_NAME)
        flush_folder(run_dir)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the newest one of a run folder, onto the CPU.

    Raises CheckpointError with one line naming the file: not found, not a checkpoint, damaged, of a newer
    format or unknown model version, or tensors that disagree with the file's own config.
    """
    path = _resolve(path)
    try:
        verify_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint or is damaged: {reason[:200]}") from error
    checkpoint = _from_content(content, path)
    _check_tensors(checkpoint, path)
    return checkpoint


def _resolve(path: Path) -> Path:
    file = path / LATEST_NAME if path.is_dir() else path
    if not file.exists():
        looked = f"{file} (the newest checkpoint of the run)" if path.is_dir() else str(file)
        raise CheckpointError(f"checkpoint not found: {looked}")
    if not file.is_file():
        raise CheckpointError(f"{file} is not a regular file")
    return file


def _to_content(checkpoint: Checkpoint) -> dict[str, Any]:
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


CONTENT_TYPES: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "format_version": (int,),
    "model_version": (str,),
    "model_config": (dict,),
    "vocab_size": (int,),
    "step": (int,),
    "model": (dict,),
    "training": (dict, type(None)),
    "tokenizer": (str, type(None)),
    "tokenizer_fingerprint": (str, type(None)),
    "run_config": (dict,),
    "versions": (dict,),
}
"""Every key of a file and what it may hold."""


def _from_content(content: object, path: Path) -> Checkpoint:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not an APEL-R checkpoint: it has no key 'format' of value {FORMAT!r}")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version}, newer than this installation reads "
            f"({FORMAT_VERSION}): update apelr-model"
        )
    if isinstance(version, int) and version < 1:
        raise CheckpointError(f"{path} has checkpoint format {version}, which has never existed")
    for key, types in CONTENT_TYPES.items():
        if key not in content:
            raise CheckpointError(f"{path} lacks the key {key!r}")
        if not isinstance(content[key], types):
            expected = " or ".join(t.__name__ for t in types)
            raise CheckpointError(f"{path}: key {key!r} must be {expected}, got {type(content[key]).__name__}")
    if extra := sorted(map(str, set(content) - set(CONTENT_TYPES))):
        raise CheckpointError(f"{path} has unknown keys: {', '.join(extra)}")
    if content["model_version"] not in CONFIGS:
        known = ", ".join(CONFIGS)
        raise CheckpointError(f"{path} has model version {content['model_version']!r}; known versions: {known}")
    try:
        config = CONFIGS[content["model_version"]](**content["model_config"])
    except (TypeError, ValueError) as error:
        reason = str(error).replace("\n", "; ")
        raise CheckpointError(f"{path}: its model_config is not valid: {reason}") from error
    kept = {k: v for k, v in content.items() if k not in ("format", "format_version", "model_version")}
    return Checkpoint(**{**kept, "model_config": config})


def _check_tensors(checkpoint: Checkpoint, path: Path) -> None:
    """Compare names and shapes with what the config asks for, on the meta device: no memory is taken."""
    layers = checkpoint.model_config.num_layers
    if layers > len(checkpoint.model):  # even without memory, building that many would take for ever
        raise CheckpointError(f"{path} holds {len(checkpoint.model)} tensors, too few for num_layers {layers}")
    try:
        with torch.device("meta"):
            expected = build_model(checkpoint.model_config, checkpoint.vocab_size).state_dict()
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: its model_config cannot be built: {error}".splitlines()[0]) from error
    compare_tensors(checkpoint.model, expected, str(path))


def compare_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError, naming `where` and the tensors, unless both have the same names and shapes.

    What is found must also be dense floating-point numbers: a view could declare more than its file holds.
    """
    if missing := sorted(set(expected) - set(found)):
        raise CheckpointError(f"{where} lacks the tensors {', '.join(missing)}")
    if extra := sorted(map(str, set(found) - set(expected))):
        raise CheckpointError(f"{where} has unknown tensors {', '.join(extra)}")
    for name, wanted in expected.items():
        tensor = found[name]
        if not isinstance(tensor, Tensor) or tensor.shape != wanted.shape:
            shape = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise CheckpointError(f"{where}: tensor {name} has shape {shape}, the config needs {list(wanted.shape)}")
        if not (tensor.is_floating_point() and tensor.layout == torch.strided and tensor.is_contiguous()):
            raise CheckpointError(f"{where}: tensor {name} is not a dense tensor of floating-point numbers")
