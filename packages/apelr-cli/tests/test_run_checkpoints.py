"""The checkpoints of a run that is taken up: one process alone removes what is to go."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from apelr_cli.config_reader import load_run_config
from apelr_cli.run_checkpoints import RunCheckpoints
from apelr_cli.run_folder import RunFolder
from apelr_model import World

CONFIG = """
model: {version: v2_planner_required, num_plan_states: 2, chunk_size: 4, token_dim: 4, hidden_dim: 6}
tokenizer: {type: char, min_frequency: 1}
data: {source: storyworld}
train: {keep_checkpoints: 2}
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_one_that_writes_removes(tmp_path: Path, rank: int) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    trainer = cast("Any", SimpleNamespace(step=3, world=World(rank, 2)))
    tokenizer = SimpleNamespace(fingerprint="ab12", to_text=str)
    data = cast("Any", SimpleNamespace(tokenizer=tokenizer, identity=dict))
    folder = RunFolder(tmp_path, writes=rank == 0)
    RunCheckpoints(load_run_config(tmp_path / "tiny.yaml"), trainer, data, folder).took_up([])
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == [f"step-{step:08d}" for step in ((2, 3) if rank == 0 else (1, 2, 3))]
