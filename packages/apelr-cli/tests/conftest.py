"""The `--device` option, and fixtures of several test files."""

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

from apelr_tokenizers import Tokenizer, TokenizerConfig, fit_tokenizer

settings.register_profile("apelr", deadline=None, derandomize=True, database=None)
settings.load_profile("apelr")

DEVICES = ("cpu", "cuda")
SENTENCES = ("the cat sat on the mat. ", "the dog ran to the cat. ", "a cat and a dog, a big old bed. ")


def pytest_addoption(parser: pytest.Parser) -> None:
    # The packages' tests also run together, and each of them knows this option.
    with contextlib.suppress(ValueError):
        parser.addoption("--device", choices=DEVICES, default="cpu", help="where tests with tensors compute")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.exit("--device cuda: torch finds no CUDA device on this machine", returncode=4)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device that `--device` names."""
    return str(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def ordinary_arithmetic() -> Iterator[None]:
    """A command run inside this process leaves tiny numbers counting as zero, which hypothesis cannot do with."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def lanes_of() -> Callable[..., list[list[list[int]]]]:
    """Joins the rows of batches where one goes on from another: targets by lane and row, in the order of the lanes.

    Where no row goes on every row is a lane of its own.
    """

    def join(batches: Iterable[Any]) -> list[list[list[int]]]:
        lanes: list[list[list[int]]] = []
        open_ones: list[list[list[int]]] = []
        for batch in batches:
            rows = [row[:length].tolist() for row, length in zip(batch.targets, batch.lengths, strict=True)]
            if batch.continues is None or not batch.continues.any():
                lanes, open_ones = lanes + open_ones, [[row] for row in rows]
                continue
            assert batch.continues.all()
            assert len(rows) <= len(open_ones)
            for lane, row in zip(open_ones, rows, strict=False):
                lane.append(row)
            assert all(len(lane) < len(open_ones[0]) for lane in open_ones[len(rows) :]), "no lane goes on after a gap"
        return lanes + open_ones

    return join


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes YAML text to a file and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def apelr() -> Callable[..., Result]:
    """Runs the command in this process: apelr("config", "quickstart"). Without `input` standard input is empty."""

    def run(*arguments: object, input: str | bytes | None = None) -> Result:
        from apelr_cli.main import main

        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=input, prog_name="apelr")

    return run


@pytest.fixture
def start_apelr() -> Callable[..., "subprocess.Popen[bytes]"]:
    """Starts the command in a process of its own, with pipes for its output unless told otherwise."""

    def start(*arguments: object, **settings: Any) -> "subprocess.Popen[bytes]":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-m", "apelr_cli", *map(str, arguments)]
        # A job that was started in the background ignores SIGINT, and so would what it starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(command, **{**pipes, **settings})
        finally:
            signal.signal(signal.SIGINT, before)

    return start


@pytest.fixture(scope="session")
def faulty_runs() -> ModuleType:
    """faulty_runs.py beside this file."""
    path = Path(__file__).with_name("faulty_runs.py")
    spec = importlib.util.spec_from_file_location("faulty_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def faulty_apelr(faulty_runs: ModuleType) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs the command in a process of its own with a fault at a change to the disk: see faulty_runs.py.

    faulty_apelr("train", ..., watched=[folder], fault={...}) -> code, said, changes.
    """
    with faulty_runs.FaultyRuns() as run:
        yield run


@pytest.fixture
def signal_at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends this process a signal when a training step is reported, as often as asked."""
    from apelr_cli.reporting import Reporter

    def arrange(step: int, number: int, times: int = 1) -> None:
        original = Reporter.step

        def reporting(self: Reporter, report: object, *rest: object) -> None:
            original(self, report, *rest)  # type: ignore[arg-type]
            if report.step == step:  # type: ignore[attr-defined]
                for _ in range(times):
                    os.kill(os.getpid(), number)

        monkeypatch.setattr(Reporter, "step", reporting)

    return arrange


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """Byte-level and lossless."""
    return fit_tokenizer(TokenizerConfig(vocab_size=290), SENTENCES)


@pytest.fixture(scope="session")
def char() -> Tokenizer:
    """Knows most lower-case letters, space, comma and full stop."""
    return fit_tokenizer(TokenizerConfig(type="char", min_frequency=1), SENTENCES)


@pytest.fixture
def make_checkpoint(tmp_path: Path, char: Tokenizer) -> Callable[..., Path]:
    """Saves a random model (V1 unless `config` says more) with a tokenizer inside; gives the run folder.

    Ids in `never` have probability zero.
    """
    import torch

    from apelr_model import Checkpoint, V1Config, build_model, save_checkpoint

    def make(
        tokenizer: Tokenizer = char,
        *,
        dtype: torch.dtype = torch.float32,
        never: Collection[int] = (),
        config: Any = None,
        changes: dict[str, Any] | None = None,
    ) -> Path:
        if config is None:
            config = V1Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7, fusion_dim=6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            model = build_model(config, tokenizer.vocab_size).to(dtype)
            learned = dict(model.named_parameters())  # and not V2's planner temperature
            tensors = {
                key: value + 0.5 * torch.randn_like(value) if key in learned else value
                for key, value in model.state_dict().items()
            }
        bias = "head.out_proj.bias" if "head.out_proj.bias" in tensors else "head.bias"  # [V], or [K, V] of experts
        tensors[bias][..., sorted(never)] = -math.inf
        model.load_state_dict(tensors)  # so that tied tensors are one
        checkpoint = Checkpoint(
            model_config=config,
            vocab_size=tokenizer.vocab_size,
            step=0,
            model=model.state_dict(),
            tokenizer=tokenizer.to_text(),
            tokenizer_fingerprint=tokenizer.fingerprint,
        )
        save_checkpoint(tmp_path / "run", replace(checkpoint, **(changes or {})))
        return tmp_path / "run"

    return make
