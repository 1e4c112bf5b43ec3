"""Files of tensors in the safetensors form: written so that what reaches the disk is known, read without trust.

The library is an extra, `apelr-model[safetensors]`, imported when it is first needed.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from apelr_model.archive import DAMAGE, named_errors
from apelr_model.errors import CheckpointError
from apelr_model.shown import one_line

__all__ = ["DTYPE_NAMES", "FileRecord", "file_record", "opened_tensors", "write_tensors"]

DTYPE_NAMES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types of tensors by their names in a file."""


class FileRecord(NamedTuple):
    """What a manifest says of a file, so that it can be told from any other."""

    size: int
    """Bytes."""
    sha256: str
    """In hexadecimal digits."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> FileRecord:
    """Write a file, flush it to disk and read it back.

    Raises OSError, and CheckpointError where what reached the disk is something else or the library is missing.
    """
    library = _library(path)
    own = _without_shared_memory(tensors)
    try:
        library.torch.save_file(own, path, metadata={"format": "pt"})
    except library.SafetensorError as error:
        raise CheckpointError(f"{path} is not written: {one_line(str(error))}") from error
    except ImportError as error:  # of numpy, by way of which the library reads a tensor's memory
        raise _missing(path, error) from error
    with named_errors(path), path.open("rb+") as file:
        os.fsync(file.fileno())
    with opened_tensors(path) as found:
        for name, tensor in own.items():
            if not torch.equal(_bytes(found.get_tensor(name)), _bytes(tensor)):
                raise CheckpointError(f"{path} was not written: what reached the disk is damaged ({name})")
    return file_record(path)


def _without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous; where two are one (tied weights) the second is a copy, as the form has no links."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage().data_ptr()
        found[name] = own.clone() if storage in seen else own
        seen.add(storage)
    return found


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def file_record(path: Path) -> FileRecord:
    """Size and digest of a file as it is. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(file.tell(), digest)


@contextmanager
def opened_tensors(path: Path) -> Iterator[Any]:
    """The file as the library opens it: `keys()`, `get_slice(name)`, `get_tensor(name)` (in the file's own memory).

    No more memory is taken than the file is large. Raises CheckpointError naming it for whatever is wrong with it.
    """
    library = _library(path)
    try:
        with library.safe_open(path, framework="pt") as found:
            yield found
    except CheckpointError:
        raise
    except (library.SafetensorError, *DAMAGE) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise CheckpointError(f"{path} is no file of tensors or is damaged: {reason}") from error


def _library(path: Path) -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise _missing(path, error) from error
    return safetensors


def _missing(path: Path, error: ImportError) -> CheckpointError:
    name = error.name or "safetensors"
    return CheckpointError(
        f"{path} needs the package {name}, which is not installed: pip install 'apelr-model[safetensors]'"
    )
