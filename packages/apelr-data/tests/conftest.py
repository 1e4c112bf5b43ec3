"""Fixtures of several test files: a tokenizer without a library, and a server that plays the hub."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

settings.register_profile("apelr", deadline=None, derandomize=True, database=None)
settings.load_profile("apelr")

REVISION = "a" * 40


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
            timeout=120,
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


class Hub:
    """Files of datasets behind the calls that the `datasets` library makes; notes what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(*hub.answer("HEAD", self.path))

            def do_GET(self) -> None:
                self._answer(*hub.answer("GET", self.path))

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                wanted = self.headers.get("Range")
                whole = len(body)
                if wanted and status == 200:
                    first, last = wanted.removeprefix("bytes=").split("-")
                    start, end = int(first), min(int(last or whole - 1), whole - 1)
                    body, status = body[start : end + 1], 206
                    headers = {**headers, "Content-Range": f"bytes {start}-{end}/{whole}"}
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, dataset: str, config: str, splits: dict[str, dict[str, bytes]]) -> None:
        """Add a configuration: split -> files."""
        files = self.files.setdefault(dataset, {"README.md": b""})
        files.update({name: body for group in splits.values() for name, body in group.items()})
        lines = [f"- config_name: {config}", "  data_files:"]
        for split, group in splits.items():
            lines += [f"  - split: {split}", "    path:", *(f"    - {name}" for name in sorted(group))]
        earlier = files["README.md"].decode().removeprefix("---\nconfigs:\n").removesuffix("---\n")
        files["README.md"] = ("---\nconfigs:\n" + earlier + "\n".join(lines) + "\n---\n").encode()

    def answer(self, method: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of one call."""
        path = path.split("?")[0]
        self.asked.append(f"{method} {path}")
        api = path.startswith("/api/")
        parts = path.removeprefix("/api").removeprefix("/datasets/").strip("/").split("/")
        dataset, rest = "/".join(parts[:2]), parts[2:]
        files = self.files.get(dataset)
        if files is None:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if api and rest[:1] == ["tree"]:
            return 200, json.dumps(self._tree(files, "/".join(rest[2:]))).encode(), {}
        if api:
            siblings = [{"rfilename": name} for name in files]
            return 200, json.dumps({"id": dataset, "sha": REVISION, "siblings": siblings}).encode(), {}
        name = "/".join(rest[2:])
        if name not in files:
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        headers = {"ETag": f'"{abs(hash(files[name])):x}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        return 200, files[name], headers

    def _tree(self, files: dict[str, bytes], folder: str) -> list[dict[str, object]]:
        """The entries of one folder."""
        entries: dict[str, dict[str, object]] = {}
        prefix = folder + "/" if folder else ""
        for name, body in files.items():
            if name.startswith(prefix):
                first, *deeper = name[len(prefix) :].split("/")
                kind = "directory" if deeper else "file"
                size = 0 if deeper else len(body)
                entries[first] = {"type": kind, "path": prefix + first, "size": size, "oid": REVISION}
        return list(entries.values())


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def hub_environment(tmp_path: Path, hub: Hub) -> dict[str, str]:
    """What a fresh interpreter needs to take the server for the hub."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hub-cache"),
        "HF_HUB_OFFLINE": "0",
        "USE_TORCH": "0",  # the library would import torch, where it is installed, in seconds
    }
