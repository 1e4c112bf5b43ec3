"""`apelr eval --tasks`: what goes together, and what comes out."""

import importlib.util
import json

import pytest
import torch
import yaml

from apelr_cli.harness import tasks

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the extra apelr-cli[lm-eval] is not installed"
)
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc"}],
}


@pytest.fixture
def folder(tmp_path):
    """A folder with two tasks of three examples."""
    rows = [{"question": "the cat sat on", "choices": ["the mat", "a dog"], "answer": i % 2} for i in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    files = {"data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path / "cache")}
    for name in ("first", "second"):
        task = {"task": name, "dataset_kwargs": files, **TASK}
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return tmp_path / "tasks"


@needs_harness
def test_json_and_the_file_hold_the_harness_s_results(apelr, make_checkpoint, bpe, folder, tmp_path):
    run = make_checkpoint(bpe, dtype=torch.float64)
    arguments = ("eval", "--checkpoint", run, "--device", "cpu", "--include-path", folder, "--force-state", 1)
    arguments += ("--tasks", "first,second", "--limit", 2, "--num-fewshot", 0, "-o", tmp_path / "saved.json")
    result = apelr(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found == json.loads((tmp_path / "saved.json").read_text(encoding="utf-8"))
    assert (found["model_version"], found["gate"]) == ("v1_filtered_mixture", "causal policy")
    assert found["results"].keys() == {"first", "second"}
    assert found["n-samples"]["first"] == {"original": 3, "effective": 2}
    assert found["config"]["batch_size"] == 16
    assert "force_state=1" in found["config"]["policy"]


@needs_harness
def test_text_is_the_harness_s_table(apelr, make_checkpoint, bpe, folder):
    result = apelr(
        *("eval", "--checkpoint", make_checkpoint(bpe), "--device", "cpu", "--include-path", folder),
        *("--tasks", "fir*", "--batch-size", 2),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("|Tasks")
    assert "|first |" in result.stdout.replace("|first|", "|first |")
    assert "second" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", 2], "--include-path, --limit and --num-fewshot need --tasks"),
        (["--tasks", " , "], "--include-path, --limit and --num-fewshot need --tasks with a task's name"),
        (
            ["--tasks", "x", "--seq-len", 4],
            "give it without --split, --file, --config, --set, --seq-len, --no-diagnostics, --gold and --steering",
        ),
        (["--tasks", "x", "--set", "data.source=text"], "--tasks brings its own texts"),
        (["--tasks", "x", "--limit", 0], "--limit"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(apelr, arguments, message):
    result = apelr("eval", "--checkpoint", "nowhere", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_the_harness_one_line_says_what_to_install_before_anything_is_loaded(apelr, monkeypatch):
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    result = apelr("eval", "--checkpoint", "nowhere", "--tasks", "lambada_openai")
    assert (result.exit_code, result.stderr) == (1, f"Error: {tasks.MISSING}\n")
