"""Experiments: how cells are made, which runs are chosen, trained and evaluated, and what the true model gives."""

import json
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parent / "experiments"
sys.path.insert(0, str(FOLDER))

import ablations  # noqa: E402
import evaluations  # noqa: E402
import frontier  # noqa: E402
import large  # noqa: E402
import planted  # noqa: E402
import real_text  # noqa: E402
import running  # noqa: E402
import storyworld  # noqa: E402
from running import Run, cell, is_finished, markdown  # noqa: E402

from apelr_cli.config_reader import load_run_config  # noqa: E402
from apelr_cli.run_config import to_yaml  # noqa: E402
from apelr_data import PlantedSource  # noqa: E402
from apelr_model import build_model  # noqa: E402


def test_cells_are_means_and_standard_deviations():
    assert cell([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert cell([1.5, None], ".1f") == "1.5"
    assert cell([1.0, 2.0, 3.0], "+.1f") == "+2.0 ± 1.0"
    assert cell([None]) == "–"


def test_a_table_is_markdown():
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


TABLES = (planted, storyworld, real_text, ablations, frontier)


def finished(out, nlls):
    """Runs of the first stage with these NLLs, 5 where nothing else is said."""
    for run in next(real_text.stages(range(3), out)):
        folder = run.folder(out)
        folder.mkdir(exist_ok=True)
        content = {"validation": {"nll": nlls.get(run.name, 5.0)}}
        (folder / "metrics.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_every_run_has_a_folder_and_a_config_that_can_be_read(table, tmp_path):
    finished(tmp_path, {})
    runs = [run for stage in table.stages(range(table.SEEDS), tmp_path) for run in stage]
    different = {replace(run, evaluations=()) for run in runs}
    assert len({run.folder(tmp_path) for run in runs}) == len(different)
    for run in runs:
        load_run_config(run.config_file, run.settings)


def test_the_larger_tier_needs_cuda_and_its_configs_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="PyTorch finds none here"):
        next(large.stages(range(1), tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    runs = next(large.stages(range(2), tmp_path))
    assert len({run.folder(tmp_path) for run in runs}) == len(runs)
    for run in runs:
        load_run_config(run.config_file, run.settings)


@pytest.mark.parametrize("text", large.CHANGES)
def test_the_larger_tier_compares_models_of_equal_size_on_equal_data(text):
    plan, *controls = (load_run_config(run.config_file, run.settings) for run in large.runs(text, 0))
    versions = [control.model.version for control in controls]
    assert versions == ["transformer_lm", "mixture_of_softmaxes"][: 2 if text in large.OFFLINE else 1]
    assert plan.model.version == "v2_planner_required"
    assert 20e6 < size_of(plan) < 70e6
    for control in controls:
        assert size_of(control) == pytest.approx(size_of(plan), rel=0.03)
        assert (control.data, control.tokenizer, control.seed) == (plan.data, plan.tokenizer, plan.seed)
        for key in ("max_steps", "batch_size", "seq_len", "lr", "warmup_steps", "precision"):
            assert getattr(control.train, key) == getattr(plan.train, key)


def size_of(config):
    with torch.device("meta"):
        model = build_model(config.model, config.tokenizer.vocab_size)
    return sum(each.numel() for each in model.parameters())


def test_evaluations_are_kept_as_long_as_checkpoint_and_sources_are_the_same(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluations, "apelr", lambda words: asked.append(words) or json.dumps({"nll": len(asked)}))
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.touch()
    assert [evaluations.evaluation(tmp_path, "--gold")["nll"] for _ in range(2)] == [1, 1]
    assert asked == [["eval", f"--checkpoint={tmp_path}", "--gold", "--format=json"]]
    assert evaluations.evaluation(tmp_path)["nll"] == 2  # other options are another evaluation
    os.utime(checkpoint, (1, 1))
    assert [evaluations.evaluation(tmp_path, "--gold")["nll"] for _ in range(2)] == [3, 3]
    monkeypatch.setattr(evaluations, "_sources", lambda: "others")
    assert [evaluations.evaluation(tmp_path, "--gold")["nll"] for _ in range(2)] == [4, 4]
    (tmp_path / "eval--gold.json").write_text('{"nll": 1', encoding="utf-8")  # what an older version left half-written
    assert evaluations.evaluation(tmp_path, "--gold")["nll"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "eval--gold.json", "eval.json"]


def test_runs_are_trained_where_they_are_not_finished_and_all_are_evaluated(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(running, "apelr", lambda words: done.append((words[0], words[-3])))
    monkeypatch.setattr(running, "evaluation", lambda folder, *options: done.append((folder.name, *options)))
    monkeypatch.setattr(running, "is_finished", lambda run, out: run.name == "old")
    runs = [
        Run("old", "planted", evaluations=((),)),
        Run("new", "planted", (), 1, ((), ("--gold",))),
        Run("c", "planted"),
    ]
    running.train_all(runs, tmp_path, workers=1)
    trained = [("train", f"--out={tmp_path / name}") for name in ("new-1", "c-0")]
    assert done == [("old-0",), trained[0], ("new-1",), ("new-1", "--gold"), trained[1]]


def test_a_finished_run_of_another_config_is_refused(tmp_path):
    run = Run("a", "planted", ("train.max_steps=7", "train.split_interval=0"), 3)
    assert not is_finished(run, tmp_path)
    folder = run.folder(tmp_path)
    folder.mkdir()
    config = load_run_config(run.config_file, [*run.settings, "train.out_dir=elsewhere"])
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    (folder / "metrics.json").write_text("{}", encoding="utf-8")
    assert is_finished(run, tmp_path)
    with pytest.raises(SystemExit, match=r"a-3 was made with another config \(train\.max_steps: 7 -> 8\): remove it"):
        is_finished(replace(run, overrides=("train.max_steps=8", "train.split_interval=0")), tmp_path)


def test_the_best_control_of_seed_0_is_run_with_every_seed(tmp_path):
    finished(tmp_path, {"transformer-window-null-lr-0.003": 3.0})
    _, [chosen], *later = real_text.stages(range(3), tmp_path)
    assert (chosen.name, chosen.seed, chosen.evaluations) == ("transformer-window-null-lr-0.003", 0, (real_text.LONG,))
    names = [[(run.name, run.seed) for run in runs] for runs in later]
    mixtures = ("mixture-gate-lr-1", "mixture-gate-lr-5")
    assert names == [
        [(name, seed) for name in ("v2", *mixtures, "transformer-window-null-lr-0.003")] for seed in (1, 2)
    ]


def test_the_true_model_s_figures_are_those_of_its_exact_filter(tmp_path):
    changes = ["data.planted.train_tokens=100", "data.planted.val_tokens=6000", "seed=3"]
    config = load_run_config(Run("", "planted").config_file, changes)
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    nll, nmi = planted._true_model(tmp_path)
    source = PlantedSource(config.data.planted, seed=3)
    stream = source.stream("validation")
    carried, alone = (source.tables.filter(stream.symbols, row_length=rows * 128).nll for rows in (16, 1))
    assert nll == carried < alone
    right = source.tables.filter(stream.symbols).log_beliefs.argmax(1) == stream.plans
    assert right.mean() > 0.9
    assert nmi > 0.9


@pytest.mark.parametrize("option", ["--seeds", "--workers"])
@pytest.mark.parametrize("value", ["-1", "0", "1.5", "two"])
def test_numbers_below_one_are_refused_in_one_line(option, value, monkeypatch, capsys):
    program = runpy.run_path(str(FOLDER / "__main__.py"), run_name="experiments")
    monkeypatch.setattr("sys.argv", ["experiments", "planted", f"{option}={value}"])
    with pytest.raises(SystemExit) as stopped:
        program["main"]()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: argument {option}: must be an integer >= 1, got {value}\n")


def test_runs_lie_by_name_and_seed():
    assert Run("a", "b", (), 7).folder(Path("x")) == Path("x/a-7")
