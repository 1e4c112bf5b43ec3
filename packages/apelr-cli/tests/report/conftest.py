"""Tiny trained runs of every model version, made once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from apelr_cli.main import main

OF_VERSION = {
    "v2_planner_required": ["model.num_plan_states=3", "model.chunk_size=4"],
    "v1_filtered_mixture": ["model.num_plan_states=40", "model.chunk_size=4", "model.fusion_dim=8"],
    "mixture_of_softmaxes": ["model.num_plan_states=3"],
    "transformer_lm": ["model.executor={type: transformer, num_heads: 2}"],
}
SIZES = [
    "model.token_dim=8",
    "model.hidden_dim=8",
    "tokenizer.vocab_size=300",
    "train.seq_len=32",
    "train.batch_size=4",
]
TEXT = ["data.max_train_examples=30", "data.max_val_examples=3"]
STEPS = ["device=cpu", "train.max_steps=4", "train.log_interval=2", "train.eval_interval=2", "train.val_batches=2"]


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a finished run of a version, on storyworld; tests leave it as it is."""
    made: dict[str, Path] = {}

    def run_of(version: str = "v2_planner_required") -> Path:
        if version not in made:
            out = tmp_path_factory.mktemp("runs") / version
            config = out.parent / "run.yaml"
            config.write_text("", encoding="utf-8")
            settings = [f"model.version={version}", *OF_VERSION[version], *SIZES, *TEXT, *STEPS]
            options = [word for each in settings for word in ("--set", each)]
            result = CliRunner().invoke(
                main, ["train", "--config", str(config), *options, "--out", str(out), "--quiet"]
            )
            assert result.exit_code == 0, result.output
            made[version] = out
        return made[version]

    return run_of


@pytest.fixture
def unfinished(run_of: Callable[..., Path], tmp_path: Path) -> Path:
    """The V2 run as if it had not come to its end."""
    out = tmp_path / "unfinished"
    shutil.copytree(run_of(), out)
    for name in ("metrics.json", "planner_eval.json"):
        (out / name).unlink()
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(line for line in lines if '"final"' not in line), encoding="utf-8")
    return out
