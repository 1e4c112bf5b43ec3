"""The manifest of a sharded checkpoint: what its files are and which of them holds which rows of every tensor."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apelr_model.errors import CheckpointError
from apelr_model.plain_config import LARGEST_NUMBER
from apelr_model.shard_files import DTYPE_NAMES, FileRecord
from apelr_model.shown import one_line, shown, shown_names

__all__ = [
    "LARGEST_MANIFEST",
    "MANIFEST_NAME",
    "SHARDS_FORMAT",
    "SHARDS_VERSION",
    "StoredTensor",
    "check_manifest",
    "manifest_text",
    "read_bounded_json",
]

MANIFEST_NAME = "manifest.json"
SHARDS_FORMAT = "apelr-checkpoint-shards"
SHARDS_VERSION = 1
"""The newest form of a folder that this package reads, and the one it writes."""
LARGEST_MANIFEST = 32 * 2**20
"""Bytes."""
MOST_CONTAINERS = 2_000_000
"""Lists and objects, which take many times as much memory as text. 1000 processes with 800 tensors need 800,000."""
FILE_NAME = re.compile(r"shard-\d{5}-of-\d{5}\.safetensors")
MOST_AXES = 16


class StoredTensor(NamedTuple):
    """Where a tensor is."""

    dtype: str
    """By its name in `DTYPE_NAMES`."""
    shape: list[int]
    parts: list[list[int]]
    """[file, first row, row after the last] of each part, in order, without gaps: file 0 is the first of the list. A
    tensor without axes has one row."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.shape[0] if self.shape else 1

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * DTYPE_NAMES[self.dtype].itemsize


def read_bounded_json(path: Path, most_bytes: int) -> dict[str, Any]:
    """The object that a small file holds, in less than 1 GiB of memory.

    Raises CheckpointError naming the file: missing, too large, damaged.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not there" if not path.exists() else f"{path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise CheckpointError(f"{path} is larger than {most_bytes} bytes")
        if content.count(b"[") + content.count(b"{") > MOST_CONTAINERS:
            raise CheckpointError(f"{path} holds more than {MOST_CONTAINERS} lists and objects")
        found = json.loads(content.decode("utf-8"))
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read or is damaged: {one_line(str(error))}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return found


def check_manifest(content: dict[str, Any], where: str) -> tuple[dict[str, FileRecord], dict[str, StoredTensor]]:
    """The files by name, in order, and the tensors by name. Raises CheckpointError naming `where` and the key.

    The tensors together are no larger than the files, so that no memory is taken that they do not fill.
    """
    if content.get("format") != SHARDS_FORMAT:
        raise CheckpointError(f"{where} is of no sharded checkpoint: it has no key 'format' of value {SHARDS_FORMAT!r}")
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{where} has format {shown(version)}, which has never existed")
    if version > SHARDS_VERSION:
        raise CheckpointError(
            f"{where} has format {version}, newer than this installation reads ({SHARDS_VERSION}): update apelr-model"
        )
    files, tensors = content.get("files"), content.get("tensors")
    if not isinstance(files, dict) or not isinstance(tensors, dict):
        raise CheckpointError(f"{where}: keys 'files' and 'tensors' must be objects")
    records = {name: _file(name, about, where) for name, about in files.items()}
    stored = {name: _tensor(name, about, len(records), where) for name, about in tensors.items()}
    if sum(each.size for each in stored.values()) > sum(record.size for record in records.values()):
        raise CheckpointError(f"{where}: its tensors are larger than its files")
    return records, stored


def _file(name: str, about: Any, where: str) -> FileRecord:
    if not FILE_NAME.fullmatch(name):
        raise CheckpointError(f"{where}: key 'files' has {shown_names([name])}, which is no name of a shard")
    fits = isinstance(about, dict) and about.keys() == {"size", "sha256"}
    if not (fits and type(about["size"]) is int and about["size"] >= 0 and isinstance(about["sha256"], str)):
        raise CheckpointError(f"{where}: key 'files' must give size and sha256 of {name}")
    return FileRecord(**about)


def _tensor(name: str, about: Any, files: int, where: str) -> StoredTensor:
    problem = CheckpointError(f"{where}: key 'tensors' does not say where {shown_names([name])} is")
    if not isinstance(about, dict) or about.keys() != set(StoredTensor._fields):
        raise problem
    found = StoredTensor(**about)
    if not (isinstance(found.dtype, str) and found.dtype in DTYPE_NAMES and _counts(found.shape)):
        raise problem
    if len(found.shape) > MOST_AXES or not isinstance(found.parts, list):
        raise problem
    if math.prod(max(1, size) for size in found.shape) > LARGEST_NUMBER:  # a size of zero would hide the others
        raise problem
    reached = 0
    for part in found.parts:
        if not (_counts(part) and len(part) == 3 and part[0] < files and part[1] == reached < part[2]):
            raise problem
        reached = part[2]
    if reached != found.rows:
        raise problem
    return found


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def manifest_text(content: Mapping[str, Any], where: Path) -> str:
    """The manifest as it is written. Raises CheckpointError where it could not be read again."""
    text = json.dumps(content, separators=(",", ":"))
    if len(text) > LARGEST_MANIFEST:
        raise CheckpointError(f"{where} would be larger than {LARGEST_MANIFEST} bytes: save with fewer processes")
    return text
