"""Hostile files for every reader: only the reader's own error may come out, soon, and without much memory."""

import contextlib
import copy
import hashlib
import io
import json
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from apelr_cli.config_reader import ConfigError, load_run_config
from apelr_cli.run_folder import RunError, RunFolder
from apelr_data import DataConfig, DataError, TokenCache, open_corpus
from apelr_data.checked_json import checksum
from apelr_model import (
    Checkpoint,
    CheckpointError,
    V1Config,
    World,
    build_model,
    load_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from apelr_tokenizers import TokenizerConfig, TokenizerError, fit_tokenizer, tokenizer_from_text

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
GOLDEN = ROOT / "packages" / "apelr-model" / "tests" / "golden"
SECONDS = 10
"""What one input may take of the processor; by the clock, on a machine that does other things too, 12 times as much."""
MEBIBYTES = 1024
"""What a reader may take in memory beyond what it began with."""
PIECES = [
    "",
    "{",
    "]",
    ",",
    '"',
    "0",
    "-1",
    "1e400",
    "null",
    "[]",
    "\\u0000",
    "\n",
    ": ",
    "- ",
    "&a",
    "*a",
    "é",
    "\ud800",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
Read = Callable[[Any], None]
"""Draws an input, reads it, and lets anything but the reader's own error out."""


def configs(folder: Path) -> Read:
    """YAML of a run: spliced text, and values of any kind at any key."""
    shipped = CONFIGS / "planted.yaml"
    valid = shipped.read_text(encoding="utf-8")
    values = yaml.safe_load(valid)
    path = folder / "run.yaml"

    def read(data: Any) -> None:
        text = spliced(data, valid) if data.draw(st.booleans()) else json.dumps(changed(data, values))  # which is YAML
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(ConfigError):
            load_run_config(path)

    return read


def tokenizers(folder: Path) -> Read:
    """Files of every type: spliced text, and values of any kind at any key."""
    ways: list[dict[str, Any]] = [
        {"type": "char"},
        {"type": "bpe", "vocab_size": 263},
        {"type": "bpe", "byte_level": False},
    ]
    texts = ["a b a b", "ab ab <pad> é"]
    valid = [fit_tokenizer(TokenizerConfig(**{"min_frequency": 1, **way}), texts).to_text() for way in ways]

    def read(data: Any) -> None:
        text = data.draw(st.sampled_from(valid))
        text = spliced(data, text) if data.draw(st.booleans()) else json.dumps(changed(data, json.loads(text)))
        with contextlib.suppress(TokenizerError):
            tokenizer_from_text(text).encode("ab é")

    return read


def checkpoints(folder: Path) -> Read:
    """Files with bytes changed or cut off, and archives that are whole but hold anything at any key."""
    config = V1Config(num_plan_states=2, chunk_size=2, token_dim=2, hidden_dim=2, fusion_dim=2)
    model = build_model(config, 4).state_dict()
    path = folder / "checkpoint.pt"
    write_checkpoint(path, Checkpoint(model_config=config, vocab_size=4, step=3, model=model, run_config={"seed": 1}))
    whole, content = path.read_bytes(), torch.load(path, weights_only=True)
    load_checkpoint(path)  # the first one imports parts of torch, which is not the inputs' time

    def read(data: Any) -> None:
        if data.draw(st.booleans()):
            path.write_bytes(bytes_changed(data, whole))
        else:
            file = io.BytesIO()
            torch.save(changed(data, content), file)
            path.write_bytes(file.getvalue())
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)

    return read


def prototypes(folder: Path) -> Read:
    """Files of the prototype, V1 and V2: whole archives that hold anything at any key."""
    path = folder / "checkpoint.pt"
    files = sorted(GOLDEN.glob("prototype-*.pt"))
    valid = [torch.load(file, weights_only=True) for file in files]
    load_checkpoint(files[0])  # as above

    def read(data: Any) -> None:
        file = io.BytesIO()
        torch.save(changed(data, data.draw(st.sampled_from(valid))), file)
        path.write_bytes(file.getvalue())
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path, allow_unexpected=data.draw(st.booleans()))

    return read


def metrics(folder: Path) -> Read:
    """The metrics of a run that is taken up: spliced text, and values of any kind at any key of a line."""
    lines: list[dict[str, Any]] = [
        {"kind": "train", "step": 1, "loss": 3.5, "usage": [0.5, 0.5]},
        {"kind": "validation", "step": 2, "nll": 3.25},
        {"kind": "preview", "step": 2, "text": "The é"},
    ]
    valid = "".join(json.dumps(line) + "\n" for line in lines)
    run = RunFolder(folder)

    def read(data: Any) -> None:
        text = spliced(data, valid)
        if data.draw(st.booleans()):
            text = "".join(json.dumps(line) + "\n" for line in changed(data, lines))
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(RunError):
            run.forget_metrics_after(1)

    return read


def shards(folder: Path) -> Read:
    """A sharded checkpoint's manifest and file: bytes changed, and values of any kind at any key of the manifest."""
    config = V1Config(num_plan_states=2, chunk_size=2, token_dim=2, hidden_dim=2, fusion_dim=2)
    model = build_model(config, 4).state_dict()
    training = {"rng": {"cpu": torch.get_rng_state()}, "list": [1, (2.0, None)]}
    checkpoint = Checkpoint(model_config=config, vocab_size=4, step=3, model=model, training=training)
    path = save_checkpoint(folder, checkpoint, shards=World())
    files = {name: name.read_bytes() for name in path.iterdir()}
    (shard,) = path.glob("*.safetensors")
    load_checkpoint(path)

    def read(data: Any) -> None:
        for name, content in files.items():
            name.write_bytes(content)
        manifest = json.loads(files[path / "manifest.json"])
        way = data.draw(st.sampled_from(["bytes", "shard", "keys"]))
        if way == "bytes":
            (path / "manifest.json").write_bytes(bytes_changed(data, files[path / "manifest.json"]))
        elif way == "shard":  # under a digest that is right
            content = bytes_changed(data, files[shard])
            shard.write_bytes(content)
            manifest["files"][shard.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        else:
            (path / "manifest.json").write_text(json.dumps(changed(data, manifest)), encoding="utf-8")
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)

    return read


def manifests(folder: Path) -> Read:
    """A token cache's manifest: bytes changed, and values of any kind at any key under a right checksum."""
    text = folder / "text.txt"
    text.write_text("ab ba\n" * 20, encoding="utf-8")
    config = DataConfig(source="text", path=str(text), token_cache_dir=str(folder / "cache"))
    cache = TokenCache(config, TokenizerConfig(type="char", min_frequency=1), seed=0)
    corpus = open_corpus(config, seed=0)
    tokenizer = cache.tokenizer(corpus)
    path = cache.tokens(tokenizer, corpus).folder / "manifest.json"
    whole = path.read_bytes()

    def read(data: Any) -> None:
        if data.draw(st.booleans()):
            path.write_bytes(bytes_changed(data, whole))
        else:
            content = json.loads(whole)
            del content["sha256"]
            key = content.pop("key") if data.draw(st.booleans()) else None
            content = changed(data, content)
            if isinstance(content, dict):
                content |= {"key": key} if key else {}
                content["sha256"] = checksum(content)
            path.write_text(json.dumps(content), encoding="utf-8")
        with contextlib.suppress(DataError):
            found = cache.find_tokens(tokenizer)
            if found:
                found.check()

    return read


def texts(folder: Path) -> Read:
    """The user's own text, as lines of JSON and as plain text: any bytes, and valid lines with bytes changed."""
    line = json.dumps({"text": "The cat sat.", "other": [1, None]}) + "\n"

    def read(data: Any) -> None:
        path = folder / data.draw(st.sampled_from(["a.jsonl", "a.txt", "a.json", "a.jsonl.gz"]))
        path.write_bytes(
            data.draw(st.binary(max_size=60)) if data.draw(st.booleans()) else bytes_changed(data, 3 * line.encode())
        )
        with contextlib.suppress(DataError):
            corpus = open_corpus(DataConfig(source="text", path=str(path)), seed=0)
            for split in ("train", "validation"):
                for document in corpus.documents(split):
                    document.encode("utf-8")

    return read


READERS: dict[str, Callable[[Path], Read]] = {
    "configs": configs,
    "tokenizer files": tokenizers,
    "checkpoints": checkpoints,
    "prototype's checkpoints": prototypes,
    "metrics": metrics,
    "sharded checkpoints": shards,
    "cache manifests": manifests,
    "texts": texts,
}


def fuzz(names: Sequence[str], inputs: int, start: int) -> Iterator[str]:
    """A line for each reader after `inputs` inputs. What a reader lets out comes out here."""
    for name in names:
        with TemporaryDirectory() as folder:
            count, grown = feed(READERS[name](Path(folder)), inputs, start)
        yield f"{count:,} inputs for {name}: only its own error came out; memory grew by {grown} MiB at most"


def feed(read: Read, inputs: int, start: int) -> tuple[int, int]:
    """The number of inputs that were read, and the MiB that memory grew by at most."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    while count < inputs:  # hypothesis stops early where it thinks that it has seen all that there is
        read_before = count

        @seed(start + count)
        @settings(
            max_examples=inputs - count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def each(data: Any) -> None:
            nonlocal count
            with limited():
                read(data)
            count += 1

        each()
        if count == read_before:
            raise SystemExit("no input could be made")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    if grown > MEBIBYTES:
        raise SystemExit(f"memory grew by {grown} MiB")
    return count, grown


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise AssertionError, which no reader raises, where the block takes too long."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"an input took more than {SECONDS} s")

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def spliced(data: Any, text: str) -> str:
    """A text with pieces cut out and others put in."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 20)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:]
    return text


def bytes_changed(data: Any, whole: bytes) -> bytes:
    """Some bytes changed, and maybe the end cut off."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)


def changed(data: Any, content: Any) -> Any:
    """A copy of nested values with others put in the place of some, or some left out."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        node = content
        for _ in range(data.draw(st.integers(1, 4))):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not (isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans())):
                if isinstance(node, dict) and data.draw(st.booleans()):
                    del node[key]
                else:
                    node[key] = data.draw(VALUES)
                break
            node = node[key]
    return content
