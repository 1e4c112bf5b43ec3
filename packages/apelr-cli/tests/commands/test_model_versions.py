"""Every model version and executor through the commands: train, resume, sample, score and evaluate agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result

from apelr_model import load_checkpoint

Run = Callable[..., Result]

SENTENCES = "The cat sat on the mat. A dog ran to the sea! Who saw it? The cat did, and ran home.\n"
TRANSFORMER = {"type": "transformer", "num_heads": 2, "num_kv_heads": 1, "window": 6}
V2_TERMS = {
    "usage_balance": 0.1,
    "boundary_entropy": 0.01,
    "future_contrastive": 0.1,
    "plan_js_div": 0.1,
    "rep_unlikelihood": 0.1,
    "rep_window": 4,
}
PLAN = {"num_plan_states": 3, "chunk_size": 4}
VERSIONS: dict[str, dict[str, Any]] = {
    "v1 transformer": {"model": {"version": "v1_filtered_mixture", **PLAN, "fusion_dim": 8, "executor": TRANSFORMER}},
    "v2 gru": {
        "model": {
            "version": "v2_planner_required",
            **PLAN,
            "lookahead_horizon": 2,
            "lookahead_feedback_scale": 0.3,
            "plan_temperature_start": 2.0,
            "plan_temperature_end": 0.7,
        },
        "train": {"loss_weights": V2_TERMS},
    },
    "v2 transformer": {
        "model": {
            "version": "v2_planner_required",
            **PLAN,
            "plan_commitment": "gumbel_st",
            "commitment_ramp_steps": 3,
            "executor": TRANSFORMER,
        },
        "data": {"document_mask": True},
    },
    "mixture_of_softmaxes": {"model": {"version": "mixture_of_softmaxes", "num_plan_states": 3}},
    "transformer_lm": {"model": {"version": "transformer_lm", "executor": TRANSFORMER}},
}


@pytest.fixture(params=VERSIONS)
def train(request: pytest.FixtureRequest, apelr: Run, tmp_path: Path) -> Run:
    """Runs `apelr train` for one version, with dropout, accumulation and every term that it has."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n}. {SENTENCES}" for n in range(30)), encoding="utf-8")
    given = VERSIONS[request.param]
    content = {
        "seed": 3,
        "device": "cpu",
        "model": {"token_dim": 8, "hidden_dim": 12, "num_layers": 2, "dropout": 0.2, **given["model"]},
        "tokenizer": {"type": "char", "min_frequency": 1},
        "data": {"source": "text", "path": str(text), "val_fraction": 0.1, **given.get("data", {})},
        "train": {
            "seq_len": 10,
            "batch_size": 4,
            "grad_accum_steps": 2,
            "max_steps": 6,
            "warmup_steps": 2,
            "lr": 0.01,
            "log_interval": 1,
            "eval_interval": 3,
            "save_interval": 3,
            "val_batches": None,
            **given.get("train", {}),
        },
    }
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return lambda *arguments: apelr("train", "--config", str(config), *map(str, arguments))


def test_a_resumed_run_equals_the_whole_one(train: Run, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    for run in (whole, again):
        result = train("--out", run)
        assert result.exit_code == 0, result.output
    first = load_checkpoint(whole)
    resumed = train("--out", again, "--resume", again / "checkpoints" / "step-00000003.pt")
    assert resumed.exit_code == 0, resumed.output
    second = load_checkpoint(again)
    assert first.step == second.step == 6
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
        for run in (whole, again)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_sampling_scoring_and_evaluation_say_the_same(train: Run, apelr: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("--out", run).exit_code == 0
    sampled = apelr(
        "sample", "--checkpoint", str(run), "--prompt", "The cat", "--max-new-tokens", "20", "--format", "json"
    )
    assert sampled.exit_code == 0, sampled.output
    drawn = json.loads(sampled.stdout)
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(drawn["ids"]), encoding="utf-8")
    scored = apelr("score", "--checkpoint", str(run), "--ids-file", str(ids), "--format", "json")
    assert scored.exit_code == 0, scored.output
    tokens = json.loads(scored.stdout)["tokens"]
    made = [token["log_prob"] for token in drawn["tokens"]]
    assert made == pytest.approx([token["log_prob"] for token in tokens][-len(made) :], abs=1e-4)

    evaluated = apelr("eval", "--checkpoint", str(run), "--format", "json")
    assert evaluated.exit_code == 0, evaluated.output
    final = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["validation"]
    at_end = json.loads((run / "planner_eval.json").read_text(encoding="utf-8"))
    found = json.loads(evaluated.stdout)
    assert found["nll"] == pytest.approx(final["nll"], abs=1e-5)
    assert found["bits_per_byte"] == pytest.approx(final["bits_per_byte"], abs=1e-5)
    assert at_end["nll"] == pytest.approx(final["nll"], abs=1e-5)
    assert found["plan_mi"] == (
        None if "transformer_lm" in str(found["model_version"]) else pytest.approx(at_end["plan_mi"], abs=1e-5)
    )
