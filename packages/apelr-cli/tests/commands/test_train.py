"""`apelr train` from the outside: files, refusals, resuming, signals."""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result

from apelr_cli import training_data
from apelr_cli.config_reader import load_run_config
from apelr_cli.metric_sinks import RunMetrics
from apelr_model import load_checkpoint, save_checkpoint

Train = Callable[..., Result]

SENTENCES = "The cat sat on the mat. A dog ran to the sea! Who saw it? The cat did, and ran home.\n"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A small text to train on."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n}. {SENTENCES}" for n in range(40)), encoding="utf-8")
    return path


@pytest.fixture
def config_file(tmp_path: Path, text_file: Path) -> Path:
    """A run of seconds with everything on that could break an exact resume: dropout, accumulation, every loss."""
    path = tmp_path / "tiny.yaml"
    content = {
        "seed": 3,
        "device": "cpu",
        "model": {
            "version": "v1_filtered_mixture",
            "num_plan_states": 3,
            "chunk_size": 4,
            "token_dim": 8,
            "hidden_dim": 12,
            "fusion_dim": 8,
            "num_layers": 2,
            "dropout": 0.2,
        },
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {"source": "text", "path": str(text_file), "val_fraction": 0.1},
        "train": {
            "seq_len": 10,
            "batch_size": 4,
            "grad_accum_steps": 2,
            "max_steps": 8,
            "warmup_steps": 2,
            "lr": 0.01,
            "log_interval": 1,
            "eval_interval": 3,
            "save_interval": 3,
            "preview_interval": 4,
            "preview_tokens": 5,
            "entropy_reg_weight": 0.01,
            "usage_balance_weight": 0.1,
            "chunk_bow_weight": 0.1,
            "chunk_bow_warmup_steps": 4,
            "plan_mi_weight": 0.1,
            "chunk_post_kl_weight": 0.1,
        },
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def train(apelr: Callable[..., Result], config_file: Path) -> Train:
    """Runs `apelr train` on the tiny config."""
    return lambda *arguments: apelr("train", "--config", str(config_file), *map(str, arguments))


def metrics(run: Path, kind: str) -> Iterator[dict[str, object]]:
    """The lines of one kind of metrics.jsonl."""
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        content = json.loads(line)
        if content["kind"] == kind:
            yield content


def assert_same_state(first: Path, second: Path) -> None:
    """Both runs' newest checkpoints are equal bit for bit: parameters, optimizer, RNG, step."""
    left, right = load_checkpoint(first), load_checkpoint(second)
    assert left.step == right.step
    assert left.model.keys() == right.model.keys()
    assert all(torch.equal(left.model[name], right.model[name]) for name in left.model)
    assert left.training is not None
    assert right.training is not None
    assert torch.equal(left.training["rng"]["cpu"], right.training["rng"]["cpu"])
    for index, state in left.training["optimizer"]["state"].items():
        assert all(torch.equal(value, right.training["optimizer"]["state"][index][key]) for key, value in state.items())


def same_losses(first: Path, second: Path) -> bool:
    """Every training line has the same loss, bit for bit, and the lines count up without a gap or a repeat."""
    left, right = ([(line["step"], line["loss"]) for line in metrics(run, "train")] for run in (first, second))
    return left == right and [step for step, _ in left] == list(range(1, len(left) + 1))


def test_a_run_writes_every_file(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train("--out", run)
    assert result.exit_code == 0, result.output
    names = {path.name for path in run.iterdir()}
    assert names == {
        "checkpoint.pt",
        "checkpoints",
        "tokenizer.json",
        "metrics.json",
        "metrics.jsonl",
        "planner_eval.json",
        "config.yaml",
        "run.json",
        "run.lock",
    }
    steps = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert steps == [f"step-{step:08d}.pt" for step in (0, 3, 6, 8)]
    assert load_checkpoint(run).step == 8
    final = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert final["step"] == 8
    assert set(final["references_bits_per_byte"]) == {"gzip_9", "xz_9e", "xz_9e_primed"}
    assert 0 < final["validation"]["bits_per_byte"] < 20
    assert [line["step"] for line in metrics(run, "validation")] == [3, 6]
    assert [line["step"] for line in metrics(run, "preview")] == [4, 8]
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert about["seed"] == 3
    assert about["device"] == "cpu"
    assert about["parameters"]["total"] == sum(v for k, v in about["parameters"].items() if k != "total")
    assert list(about["flops_per_token"]) == ["total", "executor", "planner", "head"]
    assert about["versions"]["torch"] == torch.__version__
    assert about["text"]["documents"] == 2


def test_the_written_config_is_the_run(train: Train, tmp_path: Path, config_file: Path) -> None:
    run = tmp_path / "run"
    train("--out", run, "--set", "train.max_steps=1", "--set", "train.warmup_steps=0")
    overrides = ["train.max_steps=1", "train.warmup_steps=0"]
    assert load_run_config(run / "config.yaml") == load_run_config(config_file, overrides)


def test_default_folder_is_named_after_the_config(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("--set", "train.max_steps=2").exit_code == 0
    assert (tmp_path / "runs" / "tiny" / "checkpoint.pt").is_file()


def test_out_dir_and_out(train: Train, tmp_path: Path) -> None:
    by_key, by_flag = tmp_path / "key", tmp_path / "flag"
    train("--set", f"train.out_dir={by_key}", "--set", "train.max_steps=2")
    assert (by_key / "checkpoint.pt").is_file()
    train("--set", f"train.out_dir={by_key}", "--set", "train.max_steps=2", "--out", by_flag)
    assert (by_flag / "checkpoint.pt").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stopped_and_resumed_run_equals_the_whole_one(
    train: Train, tmp_path: Path, signal_at_step: Callable[..., None], number: int, code: int, step: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("--out", whole).exit_code == 0
    signal_at_step(step, number)
    stopped = train("--out", parts)
    assert stopped.exit_code == code
    assert "Traceback" not in stopped.output
    assert load_checkpoint(parts).step == step
    assert not (parts / "metrics.json").exists()
    resumed = train("--out", parts, "--resume", "auto")
    assert resumed.exit_code == 0, resumed.output
    assert f"resuming {parts} at step {step}" in resumed.stderr
    assert_same_state(whole, parts)
    assert same_losses(whole, parts)
    assert [line["step"] for line in metrics(parts, "validation")] == [3, 6]
    finals = [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["validation"] for run in (whole, parts)]
    assert finals[0] == finals[1]


def test_resume_from_an_earlier_checkpoint_of_the_run(train: Train, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    for run in (whole, again):
        assert train("--out", run).exit_code == 0
    result = train("--out", again, "--resume", again / "checkpoints" / "step-00000003.pt")
    assert result.exit_code == 0, result.output
    assert_same_state(whole, again)
    assert same_losses(whole, again)


def test_a_second_signal_ends_the_run_at_once_and_nothing_is_half_written(
    train: Train, tmp_path: Path, signal_at_step: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    signal_at_step(5, signal.SIGTERM, times=2)
    assert train("--out", run).exit_code == 143
    assert load_checkpoint(run).step == 3
    assert not list(run.rglob("*.tmp"))


def test_signal_handlers_are_restored(train: Train, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train("--out", tmp_path / "run", "--set", "train.max_steps=2")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_while_data_are_prepared_leaves_nothing(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("apelr_cli.prepared_text.fit_tokenizer", fit)
    assert train("--out", tmp_path / "run").exit_code == 143
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_refused(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    for extra in ((), ("--resume", "auto")):
        result = train("--out", run, *extra)
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: {run} is not empty: go on with --resume auto, start afresh with --force "
            "(removes the run in it), or give another folder with --out\n"
        )
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_force_removes_the_run_and_nothing_else(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("--out", run).exit_code == 0
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    assert train("--out", run, "--force", "--set", "train.max_steps=2").exit_code == 0
    assert (run / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000000.pt", "step-00000002.pt"]


def test_force_keeps_the_old_run_when_the_new_one_cannot_start(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("--out", run).exit_code == 0
    result = train("--out", run, "--force", "--set", f"data.path={tmp_path / 'missing.txt'}")
    assert result.exit_code == 1
    assert load_checkpoint(run).step == 8


def test_force_and_resume_exclude_each_other(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "run", "--force", "--resume", "auto")
    assert result.exit_code == 2
    assert "--force starts afresh and --resume goes on: give one of them" in result.stderr


def test_an_out_that_is_a_file_is_refused(train: Train, tmp_path: Path, text_file: Path) -> None:
    result = train("--out", text_file)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {text_file} is not a folder; give another with --out\n"


def test_resume_auto_without_a_run_starts_one_and_says_so(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "run", "--resume", "auto", "--set", "train.max_steps=2")
    assert result.exit_code == 0
    assert f"no checkpoint in {tmp_path / 'run'}: starting afresh" in result.stderr


def test_resume_auto_on_a_finished_run_changes_nothing(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--out", run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = train("--out", run, "--resume", "auto")
    assert result.exit_code == 0
    assert f"{run} is finished (step 8); nothing to do" in result.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_died_in_its_final_evaluation_finishes(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--out", run)
    (run / "metrics.json").unlink()
    assert train("--out", run, "--resume", "auto").exit_code == 0
    assert (run / "metrics.json").is_file()


def test_resume_with_another_config_lists_the_differences(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--out", run)
    result = train("--out", run, "--resume", "auto", "--set", "train.lr=0.5", "--set", "model.dropout=0")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: --resume continues the same run, but the config differs in 2 keys "
        "(model.dropout: 0.2 -> 0.0; train.lr: 0.01 -> 0.5): "
        "use the run's own config.yaml, or start a new run with --set train.resume_from=FILE\n"
    )


def test_a_moved_run_can_be_resumed(train: Train, tmp_path: Path, signal_at_step: Callable[..., None]) -> None:
    signal_at_step(4, signal.SIGTERM)
    train("--set", f"train.out_dir={tmp_path / 'old'}")
    (tmp_path / "old").rename(tmp_path / "new")
    assert train("--set", f"train.out_dir={tmp_path / 'new'}", "--resume", "auto").exit_code == 0
    assert load_checkpoint(tmp_path / "new").step == 8


def test_resume_on_changed_text_is_refused(
    train: Train, tmp_path: Path, text_file: Path, signal_at_step: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    signal_at_step(4, signal.SIGTERM)
    train("--out", run)
    text_file.write_text(text_file.read_text(encoding="utf-8") + SENTENCES, encoding="utf-8")
    result = train("--out", run, "--resume", "auto")
    assert result.exit_code == 1
    assert "its text has changed: the checkpoint saw" in result.stderr


def test_resume_from_a_file_of_another_folder_is_refused(train: Train, tmp_path: Path) -> None:
    train("--out", tmp_path / "a")
    result = train("--out", tmp_path / "b", "--resume", tmp_path / "a" / "checkpoint.pt")
    assert result.exit_code == 1
    assert "is not in the run folder" in result.stderr
    assert not (tmp_path / "b").exists()


def test_resume_from_starts_a_new_run_under_a_new_config(train: Train, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    train("--out", old)
    result = train(
        "--out", new, "--set", f"train.resume_from={old}", "--set", "train.max_steps=10", "--set", "train.lr=0.002"
    )
    assert result.exit_code == 0, result.output
    assert "train.lr: 0.01 -> 0.002" in result.stderr
    assert [line["step"] for line in metrics(new, "train")] == [9, 10]
    assert load_checkpoint(new / "checkpoints" / "step-00000008.pt").model.keys() == load_checkpoint(old).model.keys()
    assert all(
        torch.equal(value, load_checkpoint(new / "checkpoints" / "step-00000008.pt").model[name])
        for name, value in load_checkpoint(old).model.items()
    )
    assert json.loads((new / "run.json").read_text(encoding="utf-8"))["first_step"] == 8


def test_resume_from_with_nothing_left_to_train(train: Train, tmp_path: Path) -> None:
    train("--out", tmp_path / "old")
    result = train("--out", tmp_path / "new", "--set", f"train.resume_from={tmp_path / 'old'}")
    assert result.exit_code == 1
    assert result.stderr == ("Error: train.max_steps is 8, but train.resume_from is at step 8: raise train.max_steps\n")
    assert not (tmp_path / "new").exists()


def test_resume_from_another_size_names_the_tensor(train: Train, tmp_path: Path) -> None:
    train("--out", tmp_path / "old")
    settings = ["train.max_steps=10", "model.hidden_dim=16", f"train.resume_from={tmp_path / 'old'}"]
    result = train("--out", tmp_path / "new", *(part for setting in settings for part in ("--set", setting)))
    assert result.exit_code == 1
    assert "tensor executor.gru.weight_ih_l0 has shape [36, 8], the config needs [48, 8]" in result.stderr
    assert not (tmp_path / "new").exists()


def test_resume_from_a_file_that_is_not_there(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "new", "--set", f"train.resume_from={tmp_path / 'gone.pt'}")
    assert result.exit_code == 1
    assert result.stderr == f"Error: checkpoint not found: {tmp_path / 'gone.pt'}\n"


def test_a_full_disk_leaves_earlier_checkpoints(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    real = torch.save

    def save(content: dict[str, object], file: object) -> None:
        if content["step"] == 6:
            raise OSError(28, "No space left on device", "checkpoints")
        real(content, file)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "save", save)
    result = train("--out", run)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: checkpoints: No space left on device"
    assert load_checkpoint(run).step == 3
    assert not list(run.rglob("*.tmp"))


def test_a_loss_that_is_not_finite_stops_before_the_step(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train("--out", run, "--set", "train.lr=1e30", "--set", "train.grad_clip=0")
    assert result.exit_code == 1
    assert "no parameter was changed" in result.stderr
    assert "the newest checkpoint is of step" in result.stderr
    state = load_checkpoint(run).model
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def test_a_run_says_what_its_model_costs(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    line = next(line for line in result.stderr.splitlines() if "MFLOPs" in line)
    assert f"v1_filtered_mixture: {about['parameters']['total']:,} parameters with a vocabulary of " in line
    assert f"; {about['flops_per_token']['total'] / 1e6:.3g} MFLOPs a token forwards: executor " in line
    assert line in "; ".join(
        train("--dry-run", "--set", f"tokenizer.vocab_size={about['vocab_size']}").stdout.split("\n           ")
    )


def test_dry_run_writes_nothing_and_asks_no_network(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a dry run used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = train("--dry-run")
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.rglob("*")) == before
    for words in (
        "v1_filtered_mixture",
        "parameters",
        "3 plan states",
        "40 targets a step, 320 in all",
        "would be made",
    ):
        assert words in result.stdout


def test_dry_run_tells_what_each_process_holds_reads_and_sends(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train("--dry-run").stdout
    parameters = int(alone.split(" parameters with")[0].rsplit(maxsplit=1)[1].replace(",", ""))
    assert "processes  " not in alone
    assert f"memory     {16 * parameters / 2**20:,.0f} MiB for parameters, gradients and optimizer, acti" in alone
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    together = ["--dry-run", "--set", "train.distributed.strategy=ddp", "--set"]
    said = train(*together, "model.hidden_dim=600").stdout
    assert "processes  2: each 2 rows, 20 targets a step" in said
    parameters = int(said.split(" parameters with")[0].rsplit(maxsplit=1)[1].replace(",", ""))
    assert f"each sends {4 * parameters / 2**20:,.1f} MiB a step" in said
    assert f"{16 * parameters / 2**20:,.0f} MiB for parameters, gradients and optimizer on each device (cpu)" in said
    shards = train(*together, "train.distributed.strategy=fsdp").stdout
    assert "MiB a step, parameters gathered and gradients scattered" in shards
    assert "MiB a share of parameters, gradients and optimizer on each device (cpu)" in shards
    assert "gathered at a time: the model, whose executor has no layers to divide, with gradients" in shards
    refused = train(*together, "train.batch_size=6")
    assert refused.exit_code == 1
    assert "(2 x 2 = 4), got 6" in refused.stderr
    monkeypatch.setenv("RANK", "1")
    assert train(*together, "train.lr=0.1").stdout == ""


def test_dry_run_warns_of_a_checkpoint_that_is_not_there(train: Train, tmp_path: Path) -> None:
    result = train("--dry-run", "--set", "train.resume_from=nowhere/checkpoint.pt")
    assert result.exit_code == 0
    assert "from nowhere/checkpoint.pt (warning: it is not there)" in result.stdout


@pytest.mark.parametrize("settings", [["train.precision=fp16", "device=auto"], ["data.path=missing.txt"]])
def test_a_dry_run_refuses_what_a_run_refuses_before_any_text_is_read(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str]
) -> None:
    if torch.cuda.is_available() and "train.precision=fp16" in settings:
        pytest.skip("this machine has CUDA, where fp16 is fine")

    def read(*arguments: object) -> None:
        raise AssertionError("text was read")

    monkeypatch.setattr("apelr_cli.training_start.prepare_text", read)
    flags = [part for setting in settings for part in ("--set", setting)]
    refusals = [train("--out", tmp_path / "run", *flags, *extra) for extra in ((), ("--dry-run",))]
    assert [result.exit_code for result in refusals] == [1, 1]
    assert refusals[0].stderr == refusals[1].stderr
    assert refusals[0].stderr.startswith("Error: ")


def test_a_dry_run_tells_how_a_run_would_go_on(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--out", run)
    assert "is finished: nothing to do" in train("--out", run, "--resume", "auto", "--dry-run").stdout
    (run / "metrics.json").unlink()
    assert "would go on from step 8" in train("--out", run, "--resume", "auto", "--dry-run").stdout
    assert "would be cleared of its run" in train("--out", run, "--force", "--dry-run").stdout
    refused = train("--out", run, "--dry-run")
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr


def test_line_separators_in_a_preview_do_not_break_resuming(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    odd = ("--set", 'train.preview_prompt="a\u2028b\u0085c"')
    assert train("--out", run, *odd).exit_code == 0
    (run / "metrics.json").unlink()
    assert train("--out", run, *odd, "--resume", "auto").exit_code == 0
    assert len(list(metrics(run, "preview"))) == 2


def test_a_continued_run_says_so_in_run_json(train: Train, tmp_path: Path, signal_at_step: Callable[..., None]) -> None:
    run = tmp_path / "run"
    signal_at_step(5, signal.SIGTERM)
    train("--out", run)
    train("--out", run, "--resume", "auto")
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert [part["step"] for part in about["continued"]] == [5]
    assert len([*metrics(run, "final")]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda training: training.pop("optimizer"), "the training state has no 'optimizer'"),
        (lambda training: training["rng"].update(cpu=torch.zeros(3)), "is not a state of torch's generator"),
        (lambda training: training["optimizer"].update(param_groups=[]), "is for parameter groups"),
        (
            lambda training: training["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
            "the optimizer's exp_avg of parameter 0 does not fit",
        ),
    ],
)
@pytest.mark.parametrize("how", ["resume", "resume_from"])
def test_a_damaged_training_state_is_one_line(
    train: Train, tmp_path: Path, how: str, change: Callable[[dict[str, object]], object], message: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    train("--out", old)
    checkpoint = load_checkpoint(old)
    assert checkpoint.training is not None
    change(checkpoint.training)
    (old / "metrics.json").unlink()
    save_checkpoint(old, checkpoint)
    if how == "resume":
        result = train("--out", old, "--resume", "auto")
    else:
        result = train("--out", new, "--set", f"train.resume_from={old}", "--set", "train.max_steps=9")
    assert result.exit_code == 1
    assert message in result.stderr.splitlines()[-1]
    assert not new.exists()


def test_print_config_prints_a_config_that_reads_back(train: Train, tmp_path: Path, config_file: Path) -> None:
    result = train("--print-config", "--set", "train.lr=1e-4")
    printed = tmp_path / "printed.yaml"
    printed.write_text(result.stdout, encoding="utf-8")
    assert load_run_config(printed) == load_run_config(config_file, ["train.lr=1e-4"])
    assert load_run_config(printed).train.lr == 1e-4


def test_quiet_says_nothing(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "run", "--quiet", "--set", "train.max_steps=2")
    assert result.exit_code == 0
    assert result.output == ""


def test_a_missing_device_is_an_error(train: Train, tmp_path: Path) -> None:
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    result = train("--out", tmp_path / "run", "--set", f"device={missing}")
    assert result.exit_code == 1
    assert missing in result.stderr
    assert not (tmp_path / "run").exists()


FETCHED = [
    ("train.num_workers=1",),
    ("train.num_workers=2", "train.prefetch_factor=1", "train.persistent_workers=true"),
]
"""Ways of fetching rows by workers."""
TEXTS = [(), ("data.token_cache=true",), ("data.order=contiguous", "train.carry_belief=true", "train.seq_len=8")]
"""Rows in a seeded order from memory and from files, and rows that go on from one another."""


def settings(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.mark.parametrize("text", TEXTS)
def test_a_run_that_workers_feed_is_the_same_bit_for_bit_stopped_and_taken_up_with_others(
    train: Train, tmp_path: Path, signal_at_step: Callable[..., None], text: tuple[str, ...]
) -> None:
    text = (*text, f"data.token_cache_dir={tmp_path / 'cache'}")
    plain, fed = tmp_path / "plain", tmp_path / "fed"
    assert train("--out", plain, *settings(*text)).exit_code == 0
    signal_at_step(5, signal.SIGTERM)
    assert train("--out", fed, *settings(*text, *FETCHED[0])).exit_code == 143
    assert load_checkpoint(fed).step == 5
    resumed = train("--out", fed, "--resume", "auto", *settings(*text, *FETCHED[1]))
    assert resumed.exit_code == 0, resumed.output
    assert_same_state(plain, fed)
    assert same_losses(plain, fed)
    finals = [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["validation"] for run in (plain, fed)]
    assert finals[0] == finals[1]


def test_a_signal_to_all_processes_of_a_run_saves_and_leaves_no_process(
    start_apelr: Callable[..., Any], config_file: Path, tmp_path: Path
) -> None:
    """As a terminal and a scheduler send it."""
    run = tmp_path / "run"
    changes = settings("train.num_workers=2", "train.max_steps=100000", "train.preview_interval=0")
    process = start_apelr("train", "--config", config_file, "--out", run, *changes, start_new_session=True)
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 143, said.decode()
    assert b"Traceback" not in said
    assert b"stopped by SIGTERM; go on with --resume auto" in said
    assert load_checkpoint(run).step >= 1
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_dead_worker_ends_the_run_in_one_line(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(step: int, **rest: object) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(step, **rest)

    original = training_data._rows_of_step
    monkeypatch.setattr(training_data, "_rows_of_step", fetch)
    result = train("--out", tmp_path / "run", *settings("train.num_workers=1", "train.prefetch_factor=1"))
    assert result.exit_code == 1
    assert "Error: a process that fetches rows has died" in result.stderr.splitlines()[-1]
    assert load_checkpoint(tmp_path / "run").step == 3


def test_an_error_at_the_end_of_the_metrics_leaves_no_process(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: RunMetrics) -> None:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(RunMetrics, "close", close)
    several = settings("train.num_workers=1", "train.persistent_workers=true")
    result = train("--out", tmp_path / "run", *several)
    assert result.exit_code == 1
    assert not multiprocessing.active_children()


def test_how_long_the_steps_wait_for_rows_is_written_down(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "run")
    shares = [line["waiting_for_rows"] for line in metrics(tmp_path / "run", "train")]
    final = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["waiting_for_rows"]
    assert len(shares) == 8
    assert all(0 < share < 1 for share in shares)
    assert min(shares) <= final <= max(shares)
    assert f"waited for rows {final:.2%} of the time of the training steps" in result.stderr


def test_a_measured_batch_size_is_said_kept_and_taken_up(
    train: Train, tmp_path: Path, signal_at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with auto equals one with the number it measured, and goes on with it however much memory there is then."""
    auto = settings("train.batch_size=auto")
    plain, measured = tmp_path / "plain", tmp_path / "measured"
    monkeypatch.setattr("apelr_cli.auto_batch.available_memory", lambda device: 3_000_000)
    signal_at_step(3, signal.SIGTERM)
    started = train("--out", measured, *auto)
    assert started.exit_code == 143, started.output
    config = yaml.safe_load((measured / "config.yaml").read_text(encoding="utf-8"))
    rows = config["train"]["batch_size"]
    assert isinstance(rows, int)
    assert rows > 2
    assert rows % 2 == 0, "micro-batches of equal size"
    assert f"train.batch_size auto: {rows} rows a step in 2 micro-batch(es)" in started.stderr
    monkeypatch.undo()
    assert train("--out", measured, "--resume", "auto", *auto).exit_code == 0
    assert train("--out", plain, *settings(f"train.batch_size={rows}")).exit_code == 0
    assert_same_state(plain, measured)
    assert same_losses(plain, measured)


def test_a_dry_run_does_not_measure(train: Train, tmp_path: Path) -> None:
    result = train("--out", tmp_path / "run", "--dry-run", *settings("train.batch_size=auto"))
    assert result.exit_code == 0, result.output
    assert "steps to 8, as many rows of 10 targets each as fit into memory: the run will measure it" in result.stdout


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "train.pin_memory=true",
            "Error: train.pin_memory true needs a CUDA device, got cpu: nothing is copied to one",
        ),
        ("train.allow_tf32=true", "Error: allow_tf32 true needs a CUDA device, got cpu: TF32 is CUDA's; leave it null"),
        ("train.batch_size=much", "Error: train.batch_size must be an integer or auto, got much"),
        ("train.compile=true", "Error: train.compile must be false when model.executor.type is gru: PyTorch compiles"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_text_is_read(
    train: Train, tmp_path: Path, change: str, line: str
) -> None:
    result = train("--out", tmp_path / "run", *settings(change))
    assert result.exit_code == 1
    assert result.stderr.startswith(line)
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
