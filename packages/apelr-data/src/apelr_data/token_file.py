"""Arrays of unsigned integers in files: written as a stream of bounded shards, memory-mapped and read as one array."""

import hashlib
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from apelr_data.errors import DataError

SHARD_BYTES = 1 << 27
"""The largest file, in bytes."""
MOST_MAPPED = 64
"""Files of one array that are mapped at the same time; each holds a file handle."""
TYPES = ("|u1", "<u2", "<u4")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of an array."""

    length: int
    "Values in it."
    type: str
    "Their type as numpy writes it: |u1, <u2 or <u4."
    sha256: str
    "SHA-256 (hex) of the file."

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.length * np.dtype(self.type).itemsize


def shard_path(folder: Path, name: str, number: int) -> Path:
    """The file of shard `number` of the array `name`."""
    return folder / f"{name}-{number:05d}.bin"


class ShardWriter:
    """Writes one array as it comes, in a `with` block; at its end the files are on the disk, and `shards` tells them.

    A shard has the type of what is written into it first, and ends before wider values.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._file: IO[bytes] | None = None
        self._type = np.dtype("u1")
        self._length = 0
        self._sha256 = hashlib.sha256()
        self.shards: list[Shard] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file and error is None:
            self._finish()
        elif self._file:
            self._file.close()

    def write(self, values: np.ndarray) -> None:
        """Append values of an unsigned little-endian type. Raises OSError when the disk is full or gone."""
        while len(values):
            if self._file and values.dtype.itemsize > self._type.itemsize:
                self._finish()
            file = self._file or self._begin(values.dtype)
            room = SHARD_BYTES // self._type.itemsize - self._length
            content = values[:room].astype(self._type).tobytes()
            self._sha256.update(content)
            file.write(content)
            self._length += len(values[:room])
            values = values[room:]
            if len(values):
                self._finish()

    def _begin(self, of_type: np.dtype[Any]) -> IO[bytes]:
        self._type, self._length, self._sha256 = of_type, 0, hashlib.sha256()
        self._file = shard_path(self._folder, self._name, len(self.shards)).open("xb")
        return self._file

    def _finish(self) -> None:
        """Bring the file to the disk and note it."""
        assert self._file, "a shard is open"
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        self._file = None
        self.shards.append(Shard(length=self._length, type=self._type.str, sha256=self._sha256.hexdigest()))


class ShardedArray:
    """The shards of one array as one read-only array.

    A file is opened when a value of it is first asked for, and then read through once to compare its checksum;
    until then only its size is known to be right. When it is opened again and is another file, or changed, its
    checksum is compared again: whatever replaces the files, no other values are read. One that is cut off while it is
    mapped is an error too, and not the end of the process. Copies to other processes open the files themselves.
    """

    def __init__(self, folder: Path, name: str, shards: tuple[Shard, ...]) -> None:
        """Raises DataError where a file is missing or has another size."""
        self._folder, self._name, self._shards = folder, name, shards
        self._ends = np.cumsum([shard.length for shard in shards], dtype=np.int64)
        self._maps: dict[int, mmap.mmap] = {}
        self._sound: dict[int, tuple[int, int, int]] = {}  # the files whose checksum was right
        for number in range(len(shards)):
            self._check_size(number)

    def __reduce__(self) -> tuple[type["ShardedArray"], tuple[Path, str, tuple[Shard, ...]]]:
        return ShardedArray, (self._folder, self._name, self._shards)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The widest of the shards' types."""
        return max((np.dtype(shard.type) for shard in self._shards), key=lambda each: each.itemsize)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Any) -> np.ndarray:
        """The values at an integer array of positions >= 0, or in a slice, as an array in memory.

        Raises IndexError for a position out of range, DataError where a file is damaged.
        """
        positions = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"positions must be in 0 .. {len(self) - 1}")
        found = np.empty(positions.shape, self.dtype)
        owners = np.searchsorted(self._ends, positions, side="right")
        for number in np.unique(owners).tolist():
            here = owners == number
            first = int(self._ends[number]) - self._shards[number].length
            found[here] = self._values(number)[positions[here] - first]
        return found

    def check(self) -> None:
        """Compare the checksum of every file. Raises DataError for the first that is damaged."""
        for number in range(len(self._shards)):
            self._values(number)

    def _values(self, number: int) -> np.ndarray:
        """The values of one shard, mapped."""
        if number not in self._maps:
            if len(self._maps) >= MOST_MAPPED:
                del self._maps[next(iter(self._maps))]
            self._maps[number] = self._open(number)
        mapped, shard = self._maps[number], self._shards[number]
        if mapped.size() != shard.size:  # that of the file: what lies beyond its end ends whoever reads it
            raise self._damage(number, f"it has {mapped.size()} bytes by now, not {shard.size}")
        return np.frombuffer(mapped, np.dtype(shard.type))

    def _open(self, number: int) -> mmap.mmap:
        self._check_size(number)
        shard, path = self._shards[number], shard_path(self._folder, self._name, number)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                state = status.st_ino, status.st_mtime_ns, status.st_size
                if self._sound.get(number) != state:
                    if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                        replaced = "another file has taken its place" if number in self._sound else ""
                        raise self._damage(number, replaced or "its content is not what was written")
                    self._sound[number] = state
                return mmap.mmap(file.fileno(), shard.size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self._damage(number, error.strerror or str(error)) from error

    def _check_size(self, number: int) -> None:
        try:
            status = shard_path(self._folder, self._name, number).stat()
        except OSError as error:
            raise self._damage(number, error.strerror or str(error)) from error
        if not stat.S_ISREG(status.st_mode):
            raise self._damage(number, "it is not a regular file")
        if status.st_size != self._shards[number].size:
            raise self._damage(number, f"it has {status.st_size} bytes, not {self._shards[number].size}")

    def _damage(self, number: int, what: str) -> DataError:
        return damaged(shard_path(self._folder, self._name, number), what)


def damaged(path: Path, what: str) -> DataError:
    """The error for a file of a token cache that cannot be used, with what to do."""
    return DataError(
        f"token cache: {path}: {what}; write the cache anew with data.reuse_token_cache false, or remove its folder"
    )
