import json

import pytest

from apelr_cli import benchmark_model
from apelr_model import PlannerLM

CONFIG = """
model: {token_dim: 4, hidden_dim: 6, num_plan_states: 2, chunk_size: 4}
tokenizer: {vocab_size: 260}
train: {seq_len: 8, batch_size: 2}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is repeated, and little is read."""
    monkeypatch.setattr(benchmark_model, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(benchmark_model, "LARGE_READ", 2**14)


@pytest.fixture
def path(write_config):
    return write_config(CONFIG)


def test_a_config_as_a_page(apelr, path, device):
    result = apelr("bench", "--config", path, "--rounds", 1, "--device", device)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("v2_planner_required, ")
    assert "batches of 2 x 8, fp32, 1 rounds" in result.stdout
    assert result.stderr == ""


def test_json_on_standard_output_and_in_a_file(apelr, path, tmp_path, device):
    file = tmp_path / "found.json"
    arguments = ["bench", "--config", path, "--rounds", 2, "--device", device, "--set", "train.seq_len=6"]
    result = apelr(*arguments, "--format", "json", "-o", file)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert file.read_text(encoding="utf-8") == result.stdout
    assert (found["seq_len"], found["rounds"], found["machine"]["device"] is not None) == (6, 2, True)
    for figure in found["figures"].values():
        assert 0 < figure["lower_quartile"] <= figure["median"] <= figure["upper_quartile"]


def test_a_checkpoint(apelr, make_checkpoint, device):
    arguments = ["--rounds", 1, "--device", device, "--set", "train.batch_size=2", "--set", "train.seq_len=8"]
    result = apelr("bench", "--checkpoint", make_checkpoint(), *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("v1_filtered_mixture, ")


def test_decoding_can_be_compiled_with_weights_in_fewer_bits(apelr, path, monkeypatch):
    compiled = []
    monkeypatch.setattr(PlannerLM, "compile_decoding", lambda model: compiled.append(model.weight_form))
    arguments = ["--config", path, "--rounds", 1, "--device", "cpu", "--format", "json"]
    result = apelr("bench", *arguments, "--compile", "--weights", "bf16")
    assert result.exit_code == 0, result.output
    assert compiled == ["bf16"]
    found = json.loads(result.stdout)
    assert (found["compile"], found["weights"]) == (True, "bf16")


def test_a_checkpoint_is_trained_on_from_its_step(apelr, make_checkpoint, monkeypatch):
    given = {}

    def kept(model, train, **settings):
        given.update(settings)
        raise ValueError("enough")

    monkeypatch.setattr(benchmark_model, "benchmark_model", kept)
    apelr("bench", "--checkpoint", make_checkpoint(changes={"step": 40}))
    assert given["step"] == 40


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_subject(apelr, path, both):
    arguments = ["--config", path, "--checkpoint", "x"] if both else []
    result = apelr("bench", *arguments)
    assert result.exit_code == 2
    assert "give exactly one of --checkpoint and --config" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--rounds", 0], 2, "0 is not in the range"),
        (["--weights", "int8"], 2, "--weights int8 needs --compile"),
        (["--weights", "int4", "--compile"], 2, "'int4' is not one of"),
        (["-o", "nowhere/at/all.json"], 2, "is not a folder"),
        (["--set", "train.precision=fp16", "--device", "cpu"], 1, "precision"),
        (["--set", "train.sequence=4"], 1, "train.sequence"),
        (["--set", "train.batch_size=auto"], 1, "train.batch_size is auto"),
    ],
)
def test_mistakes_end_in_one_line(apelr, path, arguments, code, line):
    result = apelr("bench", "--config", path, *arguments)
    assert result.exit_code == code
    assert line in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_checkpoint_is_named(apelr, tmp_path):
    result = apelr("bench", "--checkpoint", tmp_path / "none")
    assert result.exit_code == 1
    assert "none" in result.stderr
    assert len(result.stderr.splitlines()) == 1
