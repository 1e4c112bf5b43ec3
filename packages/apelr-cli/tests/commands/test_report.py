import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from apelr_cli.run_config import RunConfig, to_yaml
from apelr_cli.run_folder import RunFolder
from apelr_data import DataConfig
from apelr_model import V2Config

Run = Callable[..., Result]

HOSTILE = '</script><img src=x onerror="hurt()"> & so on. '


@pytest.fixture
def run(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A run of a random model on hostile text: config, checkpoint, and two lines of metrics."""
    from apelr_cli.run_config import to_plain
    from apelr_cli.train_config import V2TrainConfig
    from apelr_tokenizers import TokenizerConfig, fit_tokenizer

    (tmp_path / "text.txt").write_text(HOSTILE * 40, encoding="utf-8")
    data = DataConfig(source="text", path=str(tmp_path / "text.txt"), val_fraction=0.5)
    model = V2Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7)
    config = RunConfig(data=data, model=model, train=V2TrainConfig(seq_len=24, batch_size=2, val_batches=1))
    tokenizer = fit_tokenizer(TokenizerConfig(vocab_size=300), [HOSTILE])
    folder = make_checkpoint(tokenizer, config=model, changes={"run_config": to_plain(config), "step": 7})
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    for step in (3, 6):
        RunFolder(folder).append_metrics(
            {"kind": "train", "step": step, "loss": 2.0, "nll": 2.0, "usage": [0.5, 0.3, 0.2]}
        )
    return folder


def test_a_run_without_an_end_has_its_page(apelr: Run, run: Path) -> None:
    result = apelr("report", run, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{run / 'report.html'}\n"
    assert "looking at the planner of step 7" in result.stderr
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "step 7 of 1,000, not finished" in page
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert re.search(r">[^<]*&lt;[^<]*</span>", page), "a token with the sign is text"


def test_what_the_folder_holds_is_not_computed_again(apelr: Run, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = apelr("eval", "--checkpoint", run, "--device", "cpu", "--format", "json")
    planner = {**json.loads(evaluated.stdout), "step": 7, "planner_mask_delta_loss": 1.2345}
    RunFolder(run).write_json("planner_eval.json", planner)
    monkeypatch.setattr("apelr_cli.report.assemble.planner_report", lambda *_: pytest.fail("it is there"))
    assert apelr("report", run, "--quiet", "--device", "cpu").exit_code == 0
    assert "+1.2345" in (run / "report.html").read_text(encoding="utf-8")


def test_diagnostics_of_another_step_are_made_anew(apelr: Run, run: Path) -> None:
    RunFolder(run).write_json("planner_eval.json", {"step": 5, "planner_mask_delta_loss": 1.2345})
    result = apelr("report", run, "--device", "cpu")
    assert "looking at the planner of step 7" in result.stderr
    assert "1.2345" not in (run / "report.html").read_text(encoding="utf-8")


def test_without_text_the_page_needs_no_corpus(apelr: Run, run: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "text.txt", tmp_path / "moved.txt")
    failed = apelr("report", run, "--device", "cpu")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert not (run / "report.html").exists()
    moved = apelr("report", run, "--device", "cpu", "--set", f"data.path={tmp_path / 'moved.txt'}", "--quiet")
    assert (moved.exit_code, moved.output) == (0, "")
    assert apelr("report", run, "--device", "cpu", "--no-text").exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert '<section id="text">' not in page
    assert '<section id="transitions">' in page


def test_what_is_no_page_is_not_overwritten(apelr: Run, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes.html"
    other.write_text("mine", encoding="utf-8")
    result = apelr("report", run, "-o", other)
    assert result.exit_code == 1
    assert "is not a page of apelr's" in result.stderr
    assert other.read_text(encoding="utf-8") == "mine"


def test_wrong_use_is_said_in_a_line(apelr: Run, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no run" in apelr("report", tmp_path / "empty").stderr
    assert "give the folder that a run was trained into" in apelr("report", tmp_path / "missing").stderr
    both = apelr("report", run, "--no-text", "--set", "seed=1")
    assert both.exit_code == 2
    assert "give it without --no-text" in both.stderr
    wrong = apelr("report", run, "--set", "train.lr=1")
    assert "only keys of data, and seed" in wrong.stderr
