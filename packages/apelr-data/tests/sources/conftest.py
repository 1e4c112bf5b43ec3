"""A server on this machine that plays the Hugging Face hub for the real `datasets` library."""

import gzip
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apelr_data import SOURCES

REVISION = "a" * 40
README = "README.md"


class Hub:
    """Files of datasets behind the calls that the `datasets` library makes; notes what was asked and sent."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.sent: dict[str, int] = {}
        self.drops = 0
        """How many answers with data are still to be cut off half-way."""
        self.drop_in = ""
        """Only answers about files whose name begins so are cut off."""
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
                    self.wfile.write(self._cut(body))

            def _cut(self, body: bytes) -> bytes:
                name = self.path.rpartition("/")[2]
                data = "/resolve/" in self.path and not name.endswith((README, ".py", ".yaml", "infos.json"))
                if data and hub.drops and name.startswith(hub.drop_in):
                    hub.drops -= 1
                    self.close_connection = True
                    return body[: len(body) // 2]
                hub.sent[name] = hub.sent.get(name, 0) + len(body)
                return body

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, dataset: str, config: str, splits: dict[str, dict[str, bytes]], columns: str = "text") -> None:
        """Add a configuration: split -> files. The card names patterns and sizes, as the hub's cards do.

        `columns` are names with, after a colon, the kind if it is no text.
        """
        files = self.files.setdefault(dataset, {README: b"---\n---\n"})
        files.update({name: body for group in splits.values() for name, body in group.items()})
        head = files[README].decode().removeprefix("---\n").removesuffix("---\n")
        card = json.loads(head or '{"configs": [], "dataset_info": []}')
        patterns = [
            {"split": split, "path": sorted({_pattern(name) for name in group})} for split, group in splits.items()
        ]
        card["configs"].append({"config_name": config, "data_files": patterns})
        kinds = [column.partition(":") for column in columns.split()]
        features = [{"name": name, "dtype": kind or "string"} for name, _, kind in kinds]
        sizes = [{"name": split, "num_bytes": 12345, "num_examples": 678} for split in splits]
        card["dataset_info"].append({"config_name": config, "features": features, "splits": sizes})
        files[README] = f"---\n{json.dumps(card)}\n---\n".encode()  # YAML holds JSON

    def answer(self, method: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of one call."""
        url = urlsplit(path)
        self.asked.append(f"{method} {url.path}")
        if url.path == "/api/datasets":
            return 200, json.dumps(self._found(parse_qs(url.query))).encode(), {}
        api = url.path.startswith("/api/")
        parts = unquote(url.path).removeprefix("/api").removeprefix("/datasets/").strip("/").split("/")
        dataset, rest = "/".join(parts[:2]), parts[2:]
        files = self.files.get(dataset)
        if files is None:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if dataset in self.gated:
            return 401, b"{}", {"X-Error-Code": "GatedRepo"}
        if api and rest[:1] == ["refs"]:
            heads = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": REVISION} for n in ("main", "v1.0")]
            return 200, json.dumps({"branches": heads, "tags": [], "converts": []}).encode(), {}
        if len(rest) > 1 and rest[1] not in ("main", "v1.0", REVISION):
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
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

    def _found(self, query: dict[str, list[str]]) -> list[dict[str, object]]:
        """The datasets that a search finds: those of an owner, or those whose id holds a word."""
        owners, words = query.get("author", []), query.get("search", [])
        ids = [each for each in self.files if each.split("/")[0] in owners or any(word in each for word in words)]
        return [{"id": each, "tags": []} for each in ids]

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


def _pattern(name: str) -> str:
    """`en/train-00000-of-00002.parquet` -> `en/train-*`, as cards have it."""
    return re.sub(r"-\d{5}-of-\d{5}.*", "-*", name)


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


READ = """
import json, sys, time
if %r:
    time.sleep = lambda seconds: None
from apelr_data import DataConfig, DataError, MixedSource, open_corpus

out = []
for split, options in json.loads(%r):
    options["sources"] = tuple(MixedSource(**each) for each in options.get("sources", ()))
    try:
        corpus = open_corpus(DataConfig(**options), seed=0)
        out.append(list(corpus.documents(split)))
    except DataError as error:
        out.append(str(error))
print(json.dumps(out))
"""


@pytest.fixture
def read_hub(run_python: Any, hub_environment: dict[str, str]) -> Callable[..., list[Any]]:
    """(split, settings) ... -> the documents of each, or the message, read in a fresh interpreter.

    It must leave with 0 and without any word on standard error, progress bars and warnings included.
    """

    def read(*wanted: tuple[str, dict[str, Any]], impatient: bool = False, **more: str) -> list[Any]:
        done = run_python(READ % (impatient, json.dumps(wanted)), **{**hub_environment, **more})
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout.splitlines()[-1])

    return read


def parquet_bytes(rows_a_group: int | None = None, **columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=rows_a_group)
    return sink.getvalue()


@pytest.fixture(scope="session")
def parquet() -> Callable[..., bytes]:
    """Columns -> the bytes of a parquet file."""
    return parquet_bytes


WIKITEXT = {
    "train": ["", " = First article = \n", "", " Body one . \n", " = = Part = = \n", " x = 1 \n", "",
              " = Second article = \n", "", " Body two . \n"],
    "validation": ["", " = Held out = \n", "", " Validation body . \n"],
    "test": ["", " = Tested = \n", "", " Test body . \n"],
}  # fmt: skip
ARTICLES = {
    "train": [
        " = First article = \n\n Body one . \n = = Part = = \n x = 1 \n",
        " = Second article = \n\n Body two . \n",
    ],
    "validation": [" = Held out = \n\n Validation body . \n"],
}
FOLDERS = {"tinystories": "data", "fineweb": "sample/10BT", "fineweb_edu": "sample/10BT"}


def texts_of(name: str, split: str) -> list[str]:
    return [f"{name} {split} document {i}\n" for i in range(40)]


def fill_hub(hub: Hub, name: str) -> dict[str, list[str]]:
    """Put one named corpus on the server in the form it has on the hub; what reading should give, by split."""
    info = SOURCES[name]  # type: ignore[index]
    files: dict[str, dict[str, bytes]] = {}
    expected: dict[str, list[str]] = {}
    columns = "text" if name.startswith(("wikitext", "tiny")) else "id text"
    for split in ["train", info.hub_validation] if info.hub_validation else ["train"]:
        rows = expected[split] = texts_of(name, split)
        if name.startswith("wikitext"):
            rows, expected[split] = WIKITEXT[split], ARTICLES[split]
        elif name == "wiki40b_en":
            marked = "\n_START_ARTICLE_\nTïtle\n_START_SECTION_\nPart\n_START_PARAGRAPH_\nOne._NEWLINE_Two."
            rows = [marked, str(marked.encode())]
            expected[split] = ["Tïtle\n\nPart\n\nOne.\nTwo."] * 2
        if name == "c4_en":
            columns = "text timestamp url"
            lines = [json.dumps({"text": t, "timestamp": "2019-04-25T12:57:54Z", "url": "u"}) for t in rows]
            files[split] = {
                f"en/c4-{split}.{i:05d}-of-00002.json.gz": gzip.compress("\n".join(part).encode())
                for i, part in enumerate((lines[:20], lines[20:]))
            }
            continue
        half, folder = len(rows) // 2, FOLDERS.get(name, info.hub_config)
        files[split] = {
            f"{folder}/{split}-{i:05d}-of-00002.parquet": parquet_bytes(
                **{
                    column: part if column == "text" else [str(n) for n in range(len(part))]
                    for column in columns.split()
                }
            )
            for i, part in enumerate((rows[:half], rows[half:]))
        }
    if name.startswith("wikitext"):
        files["test"] = {f"{info.hub_config}/test-00000-of-00001.parquet": parquet_bytes(text=WIKITEXT["test"])}
    hub.add(info.hub_id, info.hub_config, files, columns)
    if name == "tinystories":
        # another corpus lies in the root of the same dataset
        hub.files[info.hub_id]["TinyStoriesV2-GPT4-train.txt"] = b"A story of the other corpus.\n"
    return expected


@pytest.fixture(scope="session")
def fill() -> Callable[[Hub, str], dict[str, list[str]]]:
    """Put one named corpus on the server; gives what reading it should give, by split."""
    return fill_hub
