"""The prototype's checkpoints in every command: sampling, scoring, converting, training on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from apelr_model import load_checkpoint

Run = Callable[..., Result]
Make = Callable[..., Path]
FILES = [
    ("v1_filtered_mixture", "char", True),
    ("v1_filtered_mixture", "bpe", False),
    ("v2_planner_required", "char", True),
    ("v2_planner_required", "bpe", True),
]
each_file = pytest.mark.parametrize(("version", "kind", "metadata"), FILES)


@pytest.fixture
def apelr(apelr: Run, device: str) -> Run:
    """The command; those that compute do so on the device under test."""

    def run(command: str, *arguments: object, **settings: Any) -> Result:
        on = ("--device", device) if command in ("sample", "score") else ()
        return apelr(command, *on, *arguments, **settings)

    return run


@each_file
def test_score_and_sample_open_them_directly(
    apelr: Run, make_prototype: Make, version: str, kind: str, metadata: bool
) -> None:
    path = make_prototype(version, kind, metadata=metadata)
    scored = apelr("score", "--checkpoint", path, "--text", "the cat sat on the mat.", "--format", "json")
    assert (scored.exit_code, scored.stderr.count("\n")) == (0, 1)  # bits per byte of a lossy tokenizer
    assert json.loads(scored.stdout)["nll"] > 0
    sampled = apelr("sample", "--checkpoint", path, "--prompt", "the", "--max-new-tokens", 5, "--format", "json")
    assert (sampled.exit_code, sampled.stderr) == (0, "")


@each_file
def test_convert_gives_a_file_that_is_the_same_to_every_command(
    apelr: Run, make_prototype: Make, tmp_path: Path, version: str, kind: str, metadata: bool
) -> None:
    path, new = make_prototype(version, kind, metadata=metadata), tmp_path / "new.pt"
    result = apelr("convert", path, new)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"read {path}: the prototype's form, {version}, step {60 if metadata else 0}",
        f"wrote {new}: with its tokenizer of {25 if kind == 'char' else 27} ids, with its training state",
    ]
    for arguments in (
        ("score", "--text", "the cat sat on the mat.", "--format", "json"),
        ("sample", "--prompt", "the", "--max-new-tokens", 9, "--seed", 4),
    ):
        old, now = (apelr(*arguments, "--checkpoint", file) for file in (path, new))
        assert (now.exit_code, now.stdout, now.stderr) == (0, old.stdout, old.stderr)


def test_convert_says_what_does_not_fit(apelr: Run, make_prototype: Make, tmp_path: Path) -> None:
    path = make_prototype("v2_planner_required", change=lambda content: content.update(extra=1))
    lines = apelr("convert", path, tmp_path / "new.pt").stderr.splitlines()
    assert lines == [
        f"Warning: {path}: keys that mean nothing here are ignored: extra",
        f"Warning: {path}: random number generators start afresh: the prototype did not save their states",
        f"Warning: {path}: the optimizer starts afresh for what its stored state does not fit: "
        "planner.context_proj.bias, planner.context_proj.weight",
    ]


def test_convert_replaces_nothing_unless_forced(apelr: Run, make_prototype: Make, tmp_path: Path) -> None:
    path, new = make_prototype(), tmp_path / "new.pt"
    new.write_bytes(b"mine")
    refused = apelr("convert", path, new)
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {new} exists: --force replaces it\n")
    assert new.read_bytes() == b"mine"
    assert apelr("convert", path, new, "--force").exit_code == 0
    assert load_checkpoint(new).step == 60


@pytest.mark.parametrize("place", ["folder", "nowhere/new.pt"])
def test_convert_needs_a_name_in_a_folder_that_is_there(
    apelr: Run, make_prototype: Make, tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    path, new = make_prototype(), tmp_path / place
    result = apelr("convert", path, new)
    reasons = {"folder": f"{new} is a folder: name a file", "nowhere/new.pt": f"the folder {new.parent} does not exist"}
    assert (result.exit_code, result.stderr) == (1, f"Error: {reasons[place]}\n")


def test_convert_leaves_nothing_where_it_fails(apelr: Run, make_prototype: Make, tmp_path: Path) -> None:
    path = make_prototype(tokenizer_name=None)
    assert apelr("convert", path, tmp_path / "new.pt").exit_code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_convert_may_replace_its_source(apelr: Run, make_prototype: Make) -> None:
    path = make_prototype()
    assert apelr("convert", path, path, "--force").exit_code == 0
    assert load_checkpoint(path).tokenizer is not None


def test_a_checkpoint_of_today_is_converted_too(apelr: Run, make_checkpoint: Make, tmp_path: Path) -> None:
    run = make_checkpoint()
    result = apelr("convert", run, tmp_path / "new.pt")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"read {run}: today's form, v1_filtered_mixture, step 0\n")
    assert result.stdout.endswith("for use only: there is no training state\n")
    assert load_checkpoint(tmp_path / "new.pt").tokenizer == load_checkpoint(run).tokenizer


def test_unexpected_tensors(apelr: Run, make_prototype: Make, tmp_path: Path) -> None:
    import torch

    path = make_prototype(change=lambda content: content["model_state_dict"].update(extra=torch.zeros(2)))
    for command in (("score", "--text", "the", "--checkpoint", path), ("convert", path, tmp_path / "new.pt")):
        refused = apelr(*command)
        hint = "has unexpected tensors extra; --allow-unexpected leaves them out"
        assert (refused.exit_code, refused.stderr) == (1, f"Error: {path} {hint}\n")
        allowed = apelr(*command, "--allow-unexpected")
        assert allowed.exit_code == 0
        assert f"Warning: {path}: unexpected tensors are left out: extra\n" in allowed.stderr


CONFIG = """
device: {device}
model: {{version: {version}, num_plan_states: 3, chunk_size: 4, token_dim: 5, hidden_dim: 7{fusion}}}
data: {{source: text, path: {text}, val_fraction: 0.3}}
train: {{seq_len: 8, batch_size: 2, max_steps: 63, resume_from: {origin}, eval_interval: 100, log_interval: 1}}
"""


@pytest.mark.parametrize("converted", [False, True])
@pytest.mark.parametrize("version", ["v1_filtered_mixture", "v2_planner_required"])
def test_training_goes_on_from_one(
    apelr: Run,
    make_prototype: Make,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    device: str,
    version: str,
    converted: bool,
) -> None:
    origin = make_prototype(version)
    if converted:
        assert apelr("convert", origin, tmp_path / "new.pt").exit_code == 0
        origin = tmp_path / "new.pt"
    (tmp_path / "text").mkdir()
    for number in range(4):
        (tmp_path / "text" / f"{number}.txt").write_text("the cat sat on the mat. " * 8, encoding="utf-8")
    fusion = ", fusion_dim: 6" if version.startswith("v1") else ""
    config = CONFIG.format(device=device, version=version, fusion=fusion, text=tmp_path / "text", origin=origin)
    result = apelr("train", "--config", write_config(config), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert f"starting from {origin} at step 60" in result.stderr
    assert ("random number generators start afresh" in result.stderr) is not converted
    assert ("planner.context_proj.weight" in result.stderr) is (version.startswith("v2") and not converted)
    assert load_checkpoint(tmp_path / "run").step == 63
    training = load_checkpoint(tmp_path / "run").training
    assert training is not None
    steps = {float(state["step"]) for state in training["optimizer"]["state"].values()}
    # 60: what no loss with a weight trains; 3: what started afresh
    assert steps == ({60, 63} if version.startswith("v1") else {3, 60, 63})


@pytest.fixture
def train_on(
    apelr: Run, write_config: Callable[[str], Path], tmp_path: Path, device: str
) -> Callable[[Path, str], Result]:
    """Starts a V2 run in `tmp_path / "run"` from a file, with more settings of its model."""

    def train(origin: Path, settings: str) -> Result:
        (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
        values = {"device": device, "version": "v2_planner_required", "origin": origin}
        config = CONFIG.format(**values, fusion=settings, text=tmp_path / "text.txt")
        return apelr("train", "--config", write_config(config), "--out", tmp_path / "run")

    return train


@pytest.mark.parametrize("converted", [False, True])
def test_the_evidence_of_v2_is_not_scaled_twice(
    apelr: Run, make_prototype: Make, train_on: Callable[[Path, str], Result], tmp_path: Path, converted: bool
) -> None:
    origin = make_prototype("v2_planner_required", context_scale=0.5)
    if converted:
        assert apelr("convert", origin, tmp_path / "new.pt").exit_code == 0
        origin = tmp_path / "new.pt"
    refused = train_on(origin, ", planner_context_scale: 0.5")
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"Error: model.planner_context_scale is 0.5, but in {origin} it is 1: the prototype's scale is part of these "
        "weights and would count twice; use --set model.planner_context_scale=1\n",
    )
    assert not (tmp_path / "run").exists()
    taken_up = train_on(origin, "")
    assert taken_up.exit_code == 0, taken_up.stderr
    first = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000060.pt")
    for name in ("planner.context_proj.weight", "planner.context_proj.bias"):
        assert first.model[name].equal(load_checkpoint(origin).model[name])


def test_the_scale_of_a_run_of_today_may_change(
    make_prototype: Make, train_on: Callable[[Path, str], Result], tmp_path: Path
) -> None:
    assert train_on(make_prototype("v2_planner_required"), "").exit_code == 0
    own = tmp_path / "own"
    (tmp_path / "run").rename(own)
    result = train_on(own / "checkpoints" / "step-00000060.pt", ", planner_context_scale: 0.5")
    assert result.exit_code == 0, result.stderr
    assert "model.planner_context_scale" in result.stderr


def test_the_first_checkpoint_has_the_new_run_s_temperature(
    make_prototype: Make, train_on: Callable[[Path, str], Result], tmp_path: Path
) -> None:
    settings = ", plan_temperature_start: 4.0, plan_temperature_end: 0.5"
    result = train_on(make_prototype("v2_planner_required"), settings)
    assert result.exit_code == 0, result.stderr
    first = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000060.pt")
    assert float(first.model["planner.temperature"]) == pytest.approx(4.0 - 3.5 * 60 / 63)


def test_training_on_finds_another_size_before_it_reads_text(
    apelr: Run, make_prototype: Make, write_config: Callable[[str], Path], tmp_path: Path, device: str
) -> None:
    (tmp_path / "text.txt").write_text("the cat", encoding="utf-8")
    values = {"device": device, "version": "v1_filtered_mixture", "origin": make_prototype()}
    config = CONFIG.format(**values, fusion=", fusion_dim: 8", text=tmp_path / "text.txt")
    result = apelr("train", "--config", write_config(config), "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "has shape [" in result.stderr
    assert not (tmp_path / "run").exists()
