"""A planted source from its config to rows, a trained model and its text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from apelr_cli.config_reader import load_run_config
from apelr_cli.shipped import find_config
from apelr_cli.training_data import prepare_data
from apelr_data import gold_plans
from apelr_model import build_model

SMALL = ["data.planted.train_tokens=4000", "data.planted.val_tokens=700", "train.batch_size=4", "train.max_steps=3"]


@pytest.mark.parametrize("executor", ["transformer", "gru"])
@pytest.mark.parametrize(("version", "offset"), [("v1_filtered_mixture", 0), ("v2_planner_required", 1)])
def test_the_chunks_of_the_models_rows_are_those_of_the_source(
    version: str, offset: int, executor: str, write_config: Callable[[str], Path]
) -> None:
    form = ["model.num_plan_states=4", "model.chunk_size=16", f"model.version={version}"]
    form += [f"model.executor={{type: {executor}}}", "model.token_dim=8", "model.hidden_dim=8"]
    source = ["data.source=planted", f"data.planted.chunk_offset={offset}", "data.planted.self_transition=0.1"]
    numbers = ["tokenizer.type=identity", "tokenizer.vocab_size=68", "train.seq_len=48", *SMALL]
    config = load_run_config(write_config(""), [*form, *source, *numbers])
    with torch.device("meta"):
        chunks = build_model(config.model, 68).chunks
    data = prepare_data(config)
    labels = gold_plans(data.text.corpus, "train", data.train_stream).labels
    places = data.train.stream_positions(range(len(data.train) - 1))
    of_targets = labels[places]
    assert (of_targets >= 0).all()
    changes = 0
    for row in of_targets:
        for t in range(1, 48):
            if chunks.chunk_of(t) == chunks.chunk_of(t - 1):
                assert row[t] == row[t - 1]
            changes += row[t] != row[t - 1]
    assert changes > len(of_targets)


def test_a_run_on_it_knows_the_sources_bits_and_writes_numbers(apelr: Callable[..., Result], tmp_path: Path) -> None:
    settings = [word for each in SMALL for word in ("--set", each)]
    out = tmp_path / "run"
    result = apelr("train", "--config", "planted", *settings, "--out", str(out))
    assert result.exit_code == 0, result.output
    config = load_run_config(find_config("planted"), SMALL)
    data = prepare_data(config)
    reference = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["references_bits_per_byte"]
    assert reference == {"source": data.text.corpus.source_bits_per_byte("validation")}
    sampled = apelr("sample", "--checkpoint", str(out), "--prompt", "17 4", "--max-new-tokens", "5", "--format", "json")
    assert sampled.exit_code == 0, sampled.output
    row = json.loads(sampled.stdout)
    assert row["ids"][:3] == [1, 21, 8]
    numbers = [token - 4 for token in row["ids"] if token >= 4]
    assert row["prompt"] + row["text"] == " ".join(map(str, numbers))
    shown = apelr("data", "show", "--config", "planted", "--rows", "1", "--format", "json")
    targets = json.loads(shown.stdout)["targets"]
    assert [target["chunk"] for target in targets] == [(t + 1) // 16 for t in range(128)]
