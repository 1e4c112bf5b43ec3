"""`python -m apelr_cli.harness`: the harness's own command, with our model under the name apelr."""

import importlib.metadata
import importlib.util
import json
import sys

import pytest
import yaml

from apelr_cli.harness import __main__, tasks

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the extra apelr-cli[lm-eval] is not installed"
)


@pytest.fixture
def command(monkeypatch):
    """Runs the command in this process, with no tasks but those it is given: reading its thousands takes seconds."""
    from lm_eval import tasks as its_tasks

    class Local(its_tasks.TaskManager):
        def __init__(self, include_path=None, metadata=None):
            super().__init__(include_path=include_path, metadata=metadata, include_defaults=False)

    monkeypatch.setattr(its_tasks, "TaskManager", Local)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        __main__.main()

    return run


@pytest.fixture
def task_file(tmp_path):
    """A task with data of its own."""
    (tmp_path / "rows.jsonl").write_text('{"page": "the cat sat on the mat. "}\n', encoding="utf-8")
    task = {
        "task": "pages",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{page}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    (tmp_path / "pages.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return tmp_path / "pages.yaml"


@needs_harness
def test_a_task_file_is_run_and_its_results_are_saved(command, make_checkpoint, task_file, tmp_path, capsys):
    settings = f"checkpoint={make_checkpoint()},force_state=1"
    command(
        *("--model", "apelr", "--model_args", settings, "--batch_size", 2),
        *("--tasks", task_file, "--output_path", tmp_path / "results.json"),
    )
    assert "|pages|" in capsys.readouterr().out
    (written,) = tmp_path.glob("results*.json")
    found = json.loads(written.read_text(encoding="utf-8"))
    assert found["results"]["pages"]["bits_per_byte,none"] > 0
    assert "force_state=1" in found["config"]["policy"]
    assert found["config"]["batch_size"] == "2"


@needs_harness
@pytest.mark.parametrize(
    ("settings", "message"),
    [("force_state=1", "checkpoint is missing; it must be text"), ("checkpoint=nowhere", "nowhere")],
)
def test_a_mistake_is_one_line(command, task_file, capsys, settings, message):
    with pytest.raises(SystemExit) as caught:
        command("--model", "apelr", "--tasks", task_file, "--model_args", settings)
    assert caught.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert message in line


def test_without_the_harness_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"Error: {tasks.MISSING}\n"


@needs_harness
def test_the_entry_point_of_the_plugin_is_our_model():
    """The group that the harness's documentation names; versions up to 0.4.13 do not read it."""
    from apelr_cli.harness.model import ApelrLM

    (entry,) = importlib.metadata.entry_points(group="lm_eval.models", name="apelr")
    assert entry.load() is ApelrLM
