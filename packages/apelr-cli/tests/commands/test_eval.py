import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from apelr_cli.commands.eval import eval as eval_command
from apelr_cli.run_config import RunConfig, to_plain
from apelr_cli.train_config import V2TrainConfig
from apelr_data import DataConfig
from apelr_model import GRUConfig, TransformerConfig, V1Config, V2Config, load_checkpoint
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]

TRAINING = "the cat sat on the mat. " * 20
VALIDATION = "a cat and a dog, a big old bed. the dog ran. " * 4


@pytest.fixture
def apelr(apelr: Run, device: str) -> Run:
    """The command on the device under test."""
    return lambda command, *arguments, **settings: apelr(command, "--device", device, *arguments, **settings)


@pytest.fixture
def run_config(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "train.txt").write_text(TRAINING, encoding="utf-8")
    (tmp_path / "val.txt").write_text(VALIDATION, encoding="utf-8")
    data = DataConfig(source="text", path=str(tmp_path / "train.txt"), val_path=str(tmp_path / "val.txt"))
    return to_plain(RunConfig(data=data, train=V2TrainConfig(seq_len=16, batch_size=4)))


@pytest.fixture
def run(make_checkpoint: Make, run_config: dict[str, Any]) -> Path:
    config = V2Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7)
    return make_checkpoint(config=config, changes={"run_config": run_config}, dtype=torch.float64)


def report(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_validation_split_with_every_diagnostic(apelr: Run, run: Path) -> None:
    found = report(apelr("eval", "--checkpoint", run, "--format", "json"))
    assert (found["text"], found["seq_len"], found["batch_size"]) == ("validation split of text", 16, 4)
    assert found["text_bytes"] == len(VALIDATION)
    assert found["bits_per_byte"] == pytest.approx(found["nll"] * found["targets"] / math.log(2) / len(VALIDATION))
    assert found["gate"] == "exact filter"
    assert len(found["states"]) == 3
    assert found["shuffled_belief_delta_loss"] is not None
    plain = report(apelr("eval", "--checkpoint", run, "--format", "json", "--no-diagnostics"))
    assert plain["nll"] == pytest.approx(found["nll"], abs=1e-12)
    assert "states" not in plain


def test_weights_in_fewer_bits_cost_little(apelr: Run, make_checkpoint: Make, run_config: dict[str, Any]) -> None:
    config = V2Config(num_plan_states=2, chunk_size=3, token_dim=5, hidden_dim=64)
    wide = make_checkpoint(config=config, changes={"run_config": run_config})
    arguments = ("eval", "--checkpoint", wide, "--format", "json", "--no-diagnostics", "--weights")
    exact, bf16, int8 = (report(apelr(*arguments, form))["bits_per_byte"] for form in ("fp32", "bf16", "int8"))
    assert len({exact, bf16, int8}) == 3
    assert (bf16, int8) == pytest.approx((exact, exact), rel=1e-2)


@pytest.mark.parametrize("form", [V1Config, V2Config])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_belief_goes_on_over_a_lane_of_rows_and_the_executor_does_not(
    apelr: Run, make_checkpoint: Make, run_config: dict[str, Any], char: Tokenizer, form: Any, split: str
) -> None:
    """Against reading target by target; 31 rows are lanes of 16 and 15, 12 rows (fewer than two lanes) 6 and 6."""
    config = form(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7)
    run = make_checkpoint(config=config, changes={"run_config": run_config}, dtype=torch.float64)
    model = load_checkpoint(run).build_model(torch.device("cpu")).double().eval()
    ids = [char.bos_id, *char.encode({"train": TRAINING, "validation": VALIDATION}[split]).ids, char.eos_id]
    found = report(apelr("eval", "--checkpoint", run, "--split", split, "--format", "json"))
    assert found["rows"] == {"train": 31, "validation": 12}[split]

    def stepped(lane: int) -> float:
        total, state = 0.0, model.initial_state(1)
        for t in range(len(ids) - 1):
            if t % (16 * lane) == 0:
                state = model.initial_state(1)
            elif t % 16 == 0:
                state = state._replace(carry=model.executor.initial_carry(1))
            prediction = model.predict(torch.tensor(ids[t : t + 1]), state)
            total -= float(prediction.log_probs[0, ids[t + 1]])
            state = model.observe(prediction, torch.tensor(ids[t + 1 : t + 2]))
        return total / (len(ids) - 1)

    with torch.no_grad():
        assert found["nll"] == pytest.approx(stepped({"train": 16, "validation": 6}[split]), abs=1e-9)
        others = [stepped(lane) for lane in (1, 31)]
    assert all(abs(other - found["nll"]) > 1e-6 for other in others)


def test_with_a_document_mask_every_row_begins_afresh(apelr: Run, run: Path) -> None:
    arguments = ("eval", "--checkpoint", run, "--format", "json", "--set", "data.document_mask=true")
    found = [report(apelr(*arguments, *extra)) for extra in ((), ("--no-diagnostics",), ("--batch-size", 1))]
    assert found[1]["nll"] == pytest.approx(found[0]["nll"], abs=1e-12)
    assert found[2]["nll"] == pytest.approx(found[0]["nll"], abs=1e-12)
    assert found[2]["boundary_reset_delta_loss"] == pytest.approx(found[0]["boundary_reset_delta_loss"], abs=1e-12)
    assert report(apelr("eval", "--checkpoint", run, "--format", "json"))["nll"] != pytest.approx(found[0]["nll"])


@pytest.mark.parametrize("executor", [GRUConfig(), TransformerConfig(num_heads=1)])
def test_one_row_of_a_whole_file_is_what_score_says(
    apelr: Run, make_checkpoint: Make, tmp_path: Path, executor: Any
) -> None:
    """`eval` reads the end of the document too: one target more, without bytes."""
    config = V2Config(num_plan_states=3, chunk_size=3, token_dim=6, hidden_dim=6, executor=executor)
    run = make_checkpoint(config=config, dtype=torch.float64)
    file = tmp_path / "text.txt"
    file.write_text(VALIDATION, encoding="utf-8")
    arguments = ("--checkpoint", run, "--format", "json")
    found = report(apelr("eval", *arguments, "--file", file, "--seq-len", 1000))
    scored = report(apelr("score", *arguments, "--file", file))
    end = found["nll"] * found["targets"] - scored["nll"]
    assert found["targets"] == len(scored["tokens"]) + 1
    assert 0 < end < 20
    assert found["rows"] == 1


def as_numbers(value: Any) -> list[float]:
    """Every number in a report, in order."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in as_numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def test_batches_change_no_figure_that_is_not_about_them(apelr: Run, run: Path) -> None:
    arguments = ("eval", "--checkpoint", run, "--format", "json", "--split", "train")
    found = [report(apelr(*arguments, "--batch-size", size)) for size in (1, 3, 100)]
    of_batches = ("batch_size", "shuffled_belief_delta_loss", "future_contrastive_loss")
    one, three, all_at_once = ({key: each[key] for key in each if key not in of_batches} for each in found)
    flat = as_numbers(one)
    assert len(flat) > 40
    assert as_numbers(three) == pytest.approx(flat, abs=1e-9)
    assert as_numbers(all_at_once) == pytest.approx(flat, abs=1e-9)
    assert [each["shuffled_belief_delta_loss"] is None for each in found] == [True, False, False]


def test_interventions_and_what_is_said_of_them(apelr: Run, run: Path) -> None:
    arguments = ("eval", "--checkpoint", run)
    plain = report(apelr(*arguments, "--format", "json"))
    uniform = report(apelr(*arguments, "--format", "json", "--planner-mode", "uniform"))
    assert uniform["nll"] - plain["nll"] == pytest.approx(plain["planner_mask_delta_loss"], abs=1e-9)
    assert uniform["gate"] == "causal policy"
    forced = report(apelr(*arguments, "--format", "json", "--force-state", 2, "--no-diagnostics"))
    assert forced["nll"] == pytest.approx(plain["states"][2]["forced_nll"], abs=1e-9)
    shown = apelr(*arguments, "--planner-temperature", 0.5, "--freeze-after", 3)
    assert shown.stderr == (
        "Note: the gate is a causal policy (planner temperature 0.5, frozen from target 3 on), not the exact filter\n"
    )
    assert "gate            causal policy\n" in shown.stdout


@pytest.mark.parametrize("options", [("--seq-len", 2**62), ("--freeze-after", 2**62), ("--lookahead-horizon", 2**62)])
def test_the_largest_counts_are_only_large(apelr: Run, run: Path, options: tuple[object, ...]) -> None:
    """A row is no wider than the text; a freeze that never comes and a horizon without feedback change nothing."""
    arguments = ("eval", "--checkpoint", run, "--format", "json", "--no-diagnostics")
    found = report(apelr(*arguments, *options))
    if options[0] == "--seq-len":
        assert (found["seq_len"], found["rows"], found["batch_size"]) == (found["targets"], 1, 1)
    else:
        assert found["nll"] == pytest.approx(report(apelr(*arguments))["nll"], abs=1e-12)


def test_the_object_can_be_written_to_a_file(apelr: Run, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "planner_eval.json"
    shown = apelr("eval", "--checkpoint", run, "-o", path)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("text            validation split of text: ")
    assert json.loads(path.read_text(encoding="utf-8")) == report(
        apelr("eval", "--checkpoint", run, "--format", "json")
    )


def test_unknown_characters_are_warned_of(apelr: Run, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("a 中 cat", encoding="utf-8")
    result = apelr("eval", "--checkpoint", run, "--file", file)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Warning: 1 character is unknown to the tokenizer and read as <unk>\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--file", __file__, "--split", "train"), 2, "--file is read as it is"),
        (("--file", __file__, "--set", "seed=1"), 2, "--file is read as it is"),
        (("-o", "/no/such/folder/x.json"), 2, "/no/such/folder is not a folder"),
        (("--set", "data.sorce=text"), 1, "data.sorce"),
        (("--set", "train.lr=1"), 1, "--set train.lr=1: only keys of data, and seed, can be set here"),
        (("--config", "no_such"), 1, "no_such is neither a file nor a shipped config"),
        (("--force-state", 3), 2, "--force-state must be between 0 and 2, got 3"),
        (("--seq-len", 0), 2, "--seq-len"),
        (("--seq-len", 10**23), 2, "Invalid value for '--seq-len'"),
        (("--batch-size", 10**23), 2, "Invalid value for '--batch-size'"),
        (("--freeze-after", 10**20), 2, "Invalid value for '--freeze-after'"),
        (("--lookahead-horizon", 10**400), 2, "Invalid value for '--lookahead-horizon'"),
    ],
)
def test_refusals(apelr: Run, run: Path, arguments: tuple[object, ...], code: int, message: str) -> None:
    result = apelr("eval", "--checkpoint", run, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_the_options_are_those_of_the_interface() -> None:
    names = {flag for option in eval_command.params for flag in option.opts}
    assert names >= {
        *("--checkpoint", "--tokenizer", "--allow-unexpected", "--split", "--file", "--config", "--set", "--seq-len"),
        *("--batch-size", "--no-diagnostics", "-o", "--output", "--device", "--format", "--force-state"),
        *("--freeze-after", "--planner-mode", "--planner-temperature", "--no-token-filtering"),
        *("--lookahead-horizon", "--lookahead-feedback-scale"),
    }
    assert "--freeze-planner" not in names
