"""Fixtures of several test files: a tokenizer without a library, and fresh interpreters."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import settings

settings.register_profile("apelr", deadline=None, derandomize=True, database=None)
settings.load_profile("apelr")


class FakeEncoding(NamedTuple):
    ids: list[int]
    byte_counts: list[int]
    unknown: int


class ByteTokenizer:
    """Ids 4 .. 259 are bytes; the snowman is unknown. Notes the size of every batch."""

    pad_id, bos_id, eos_id, unk_id = 0, 1, 2, 3

    def __init__(self, vocab_size: int = 260) -> None:
        self.vocab_size = vocab_size
        self.batches: list[int] = []

    def encode(self, text: str) -> FakeEncoding:
        ids: list[int] = []
        byte_counts: list[int] = []
        for part in text.replace("☃", "\0☃\0").split("\0"):
            if part == "☃":
                ids.append(3)
                byte_counts.append(3)
            else:
                ids += [byte + 4 for byte in part.encode()]
                byte_counts += [1] * len(part.encode())
        return FakeEncoding(ids, byte_counts, text.count("☃"))

    def encode_batch(self, texts: Sequence[str]) -> list[FakeEncoding]:
        self.batches.append(sum(map(len, texts)))
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        parts = [b"\xe2\x98\x83" if i == 3 else bytes([i - 4]) for i in ids if i >= 3]
        return b"".join(parts).decode()


@pytest.fixture(scope="session")
def byte_tokenizer() -> type[ByteTokenizer]:
    return ByteTokenizer


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a fresh interpreter that sees the same packages."""

    def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            encoding="utf-8",
            timeout=900,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1", **environment},
        )

    return run


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script in a fresh interpreter that sees the same packages; it is killed when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"}
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", script, *arguments]
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
