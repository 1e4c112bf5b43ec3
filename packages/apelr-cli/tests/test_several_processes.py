"""Several processes train one model, started by torchrun: the same run as one process makes, and never a second one.

Few tests for many claims: each start of torchrun costs seconds.
"""

import json
import math
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result

from apelr_cli.config_reader import load_run_config
from apelr_cli.training_data import prepare_data
from apelr_model import World, load_checkpoint

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
WORKER = Path(__file__).parent / "process_worker.py"
DDP = ("--set", "train.distributed.strategy=ddp")
SHARDS = ("--set", "train.sharded_checkpoints=true", "--set", "train.async_save=true")
STEPS = 9


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Accumulation, belief that is carried on, splits; evaluations and saves at steps of their own."""
    content = {
        "seed": 3,
        "device": "cpu",
        "model": {
            "version": "v2_planner_required",
            "num_plan_states": 3,
            "chunk_size": 4,
            "token_dim": 8,
            "hidden_dim": 12,
        },
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {"source": "storyworld", "max_train_chars": 20000, "max_val_chars": 3000, "order": "contiguous"},
        "train": {
            "seq_len": 16,
            "batch_size": 8,
            "grad_accum_steps": 2,
            "carry_belief": True,
            "split_interval": 2,
            "max_steps": STEPS,
            "warmup_steps": 2,
            "lr": 0.01,
            "log_interval": 1,
            "eval_interval": 3,
            "val_batches": 2,
            "save_interval": 2,
            "preview_interval": 4,
            "preview_tokens": 5,
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind of metrics.jsonl."""
    every = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in every if line["kind"] == kind]


def start_torchrun(launch: list[str], program: list[object]) -> "subprocess.Popen[str]":
    """Start torchrun."""
    command = [*TORCHRUN, *launch, *map(str, program)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and what was said; the time limit only guards against a launch that never ends."""
    _, said = process.communicate(timeout=900)
    return process.returncode, said


def all_finished(machines: list["subprocess.Popen[str]"]) -> list[tuple[int, str]]:
    """`finished` for each: when the first has left, the others are asked to."""
    with ThreadPoolExecutor(len(machines)) as pool:
        waiting = [pool.submit(finished, machine) for machine in machines]
        wait(waiting, return_when=FIRST_COMPLETED)
        for machine in machines:
            machine.terminate()
        return [each.result() for each in waiting]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def assert_close_figures(left: dict[str, Any], right: dict[str, Any], *names: str) -> None:
    for name in names:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_with_another_number_of_processes_and_when_one_is_killed(
    apelr: Callable[..., Result], config_file: Path, tmp_path: Path, signal_at_step: Callable[..., None]
) -> None:
    """1 -> 2 -> 1 processes equal one: the two as two machines that talk over TCP; the second of them is killed.

    The two save in the background, in shards. After the restart, which costs a step, a signal to the launcher of one of
    them stops both. The other launcher has restarts left, or none: that depends on which of the two has first noticed
    what.
    """
    config = ("train", "--config", config_file)
    assert apelr(*config, "--out", tmp_path / "whole").exit_code == 0
    signal_at_step(3, signal.SIGTERM)
    assert apelr(*config, "--out", tmp_path / "parts").exit_code == 143
    together = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--local-addr=127.0.0.1"]
    together += ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=1", "--shutdown-timeout=900"]
    signals = [tmp_path / "signals", 5, "SIGKILL", 7, "SIGTERM", "--"]
    worker = [WORKER, *signals, *config, "--out", tmp_path / "parts", "--resume", "auto", *DDP, *SHARDS]
    outcomes = all_finished([start_torchrun(together, worker) for _ in range(2)])
    said = "\n".join(text for _, text in outcomes)
    codes = [code for code, _ in outcomes]
    assert 1 in codes, f"torchrun's own code where it was asked to stop\n{said}"
    assert 0 not in codes, said
    resumed = [said.count(f"resuming {tmp_path / 'parts'} at step {step}") for step in (3, 4)]
    assert resumed in ([1, 1], [2, 0]), "the save of step 4 may still be under way when the process is killed"
    assert said.count(f"stopped by SIGTERM; go on with --resume auto --out {tmp_path / 'parts'}") == 1
    assert load_checkpoint(tmp_path / "parts").step == 7
    result = apelr(*config, "--out", tmp_path / "parts", "--resume", "auto")
    assert result.exit_code == 0, result.stderr

    whole, parts = (lines(tmp_path / name, "train") for name in ("whole", "parts"))
    assert [line["step"] for line in parts] == list(range(1, STEPS + 1))
    for one, several in zip(whole, parts, strict=True):
        assert_close_figures(one, several, "loss", "nll", "grad_norm", "bits_per_byte", "usage")
    for kind in ("validation", "final"):
        for one, several in zip(*(lines(tmp_path / name, kind) for name in ("whole", "parts")), strict=True):
            assert_close_figures(one, several, "step", "nll", "bits_per_byte", "plan_mi", "usage_kl", "chunk_bow")
            assert one["targets"] == several["targets"]
    assert [line["text"] for line in lines(tmp_path / "whole", "preview")] == [
        line["text"] for line in lines(tmp_path / "parts", "preview")
    ]
    states = [load_checkpoint(tmp_path / name).model for name in ("whole", "parts")]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=1e-4)
    about = json.loads((tmp_path / "parts" / "run.json").read_text(encoding="utf-8"))
    assert [part["processes"] for part in (about, *about["continued"])] == [1, 2, 2, 1]


def test_a_run_goes_on_with_shards_and_back(
    apelr: Callable[..., Result], config_file: Path, tmp_path: Path, signal_at_step: Callable[..., None]
) -> None:
    """1 -> 2 with a share of the parameters each, saved in the background -> 1: evaluations, previews, a signal."""
    model = ["model.executor.type=transformer", "model.executor.num_heads=2", "model.num_layers=2"]
    settings = [*model, "train.split_interval=0", "train.max_steps=6"]
    config = ["train", "--config", config_file, *[part for each in settings for part in ("--set", each)]]
    assert apelr(*config, "--out", tmp_path / "whole").exit_code == 0
    signal_at_step(2, signal.SIGTERM)
    assert apelr(*config, "--out", tmp_path / "parts").exit_code == 143
    worker = [WORKER, tmp_path / "signals", 5, "SIGTERM", "--", *config, "--out", tmp_path / "parts"]
    shards = ("--resume", "auto", "--set", "train.distributed.strategy=fsdp", "--set", "train.async_save=true")
    shards += ("--set", "train.sinks=[tensorboard]")
    code, said = finished(start_torchrun(["--standalone", "--nproc-per-node=2"], [*worker, *shards]))
    assert code == 1, said
    assert f"stopped by SIGTERM; go on with --resume auto --out {tmp_path / 'parts'}" in said
    assert len(list((tmp_path / "parts" / "checkpoints" / "step-00000005").glob("*.safetensors"))) == 2
    assert len(list((tmp_path / "parts" / "tensorboard").iterdir())) == 1, "of two processes one writes"
    result = apelr(*config, "--out", tmp_path / "parts", "--resume", "auto")
    assert result.exit_code == 0, result.stderr
    for kind in ("train", "validation", "final"):
        for one, several in zip(*(lines(tmp_path / name, kind) for name in ("whole", "parts")), strict=True):
            assert_close_figures(one, several, "step", "nll", "bits_per_byte")
    assert lines(tmp_path / "whole", "preview") == lines(tmp_path / "parts", "preview") != []


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("train.split_interval", "2", "0"),
        ("train.sharded_checkpoints", "false", "null or true"),
        ("train.compile", "true", "false"),
        ("train.precision", "fp16", "fp32 or bf16"),
        ("train.skip_non_finite", "1", "0"),
    ],
)
def test_what_shards_cannot_do_is_refused(
    apelr: Callable[..., Result], config_file: Path, key: str, value: str, rule: str
) -> None:
    flags = ("train.split_interval=0", "train.distributed.strategy=fsdp", f"{key}={value}")
    result = apelr("train", "--config", config_file, *[part for flag in flags for part in ("--set", flag)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {key} must be {rule} with distributed.strategy fsdp, got ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("order", ["shuffled", "contiguous"])
def test_any_number_of_processes_sees_the_same_global_batches(config_file: Path, size: int, order: str) -> None:
    changes = (f"data.order={order}", f"train.carry_belief={str(order == 'contiguous').lower()}")
    config = load_run_config(config_file, changes)
    data = prepare_data(config)
    shares = [replace(data, world=World(rank, size)) for rank in range(size)]
    for step in (0, 7, 100):
        whole, whole_bytes = data.train_batch(step)
        parts = [share.train_batch(step) for share in shares]
        assert torch.equal(torch.cat([batch.inputs for batch, _ in parts]), whole.inputs)
        assert sum(text_bytes for _, text_bytes in parts) == whole_bytes
        if whole.continues is not None:
            assert torch.equal(torch.cat([batch.continues for batch, _ in parts]), whole.continues)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_held_out_rows_are_each_read_once_and_go_on_in_the_same_process(
    config_file: Path, size: int, lanes_of: Callable[..., list[list[list[int]]]]
) -> None:
    data = prepare_data(load_run_config(config_file))
    whole = lanes_of(data.validation_batches(None))
    shares = [replace(data, world=World(rank, size)) for rank in range(size)]
    taken = [list(share.own_validation_batches(None)) for share in shares]
    assert len({len(batches) for batches in taken}) == 1, "all are asked equally often whether to stop"
    lanes = [lane for batches in taken for lane in lanes_of(b for b in batches if b is not None)]
    assert sorted(lanes) == sorted(whole)
    assert math.prod(map(len, lanes)) > 0
