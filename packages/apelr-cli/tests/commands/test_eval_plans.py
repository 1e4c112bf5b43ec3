"""`apelr eval --gold` and `--steering`: figures against a way of their own, pages, and refusals."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from apelr_cli.run_config import RunConfig, to_plain
from apelr_cli.train_config import V2TrainConfig
from apelr_data import BEATS, DataConfig, PlantedConfig, PlantedSource, generate_story
from apelr_model import MixtureOfSoftmaxesConfig, PlannerLM, V2Config, load_checkpoint, matched_transition_distance
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]

SIZES: dict[str, Any] = {"chunk_size": 8, "token_dim": 5, "hidden_dim": 7}
STORIES = DataConfig(max_train_examples=2, max_val_examples=1, max_val_tokens=400)
PLANTED = PlantedConfig(num_plans=3, vocab_size=6, chunk_size=8, chunk_offset=1, train_tokens=50, val_tokens=192)


@pytest.fixture
def apelr(apelr: Run, device: str) -> Run:
    """The command on the device under test."""
    return lambda command, *arguments, **settings: apelr(command, "--device", device, *arguments, **settings)


@pytest.fixture
def of_stories(make_checkpoint: Make) -> Path:
    """A run on storyworld, whose rows hold 32 targets."""
    tokenizer = fit_tokenizer(TokenizerConfig(type="char", min_frequency=1), [generate_story(1, "train", 0).text])
    config = to_plain(RunConfig(data=STORIES, train=V2TrainConfig(seq_len=32, batch_size=4)))
    model = V2Config(num_plan_states=4, **SIZES)
    return make_checkpoint(tokenizer, config=model, changes={"run_config": config}, dtype=torch.float64)


@pytest.fixture
def planted(make_checkpoint: Make) -> Path:
    """A run on a planted source, whose rows hold three of its chunks."""
    tokenizer_config = TokenizerConfig(type="identity", vocab_size=10)
    tokenizer = fit_tokenizer(tokenizer_config, [])
    data = DataConfig(source="planted", planted=PLANTED)
    run = RunConfig(seed=3, data=data, tokenizer=tokenizer_config, train=V2TrainConfig(seq_len=24, batch_size=3))
    model = V2Config(num_plan_states=4, boundary_evidence=False, **SIZES)
    return make_checkpoint(tokenizer, config=model, changes={"run_config": to_plain(run)}, dtype=torch.float64)


def report(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def read_target_by_target(model: PlannerLM, ids: list[int], *, row: int, lane: int) -> list[int]:
    """The most likely state after each target; each `row` begins the executor afresh, each `lane` begins all."""
    states, state = [], model.initial_state(1)
    for t in range(len(ids) - 1):
        if t % lane == 0:
            state = model.initial_state(1)
        elif t % row == 0:
            state = state._replace(carry=model.executor.initial_carry(1))
        prediction = model.predict(torch.tensor(ids[t : t + 1]), state)
        state = model.observe(prediction, torch.tensor(ids[t + 1 : t + 2]))
        states.append(int(state.log_belief[0].argmax()))
    return states


def test_recovery_is_that_of_a_text_read_target_by_target(apelr: Run, planted: Path) -> None:
    """The source is one document: BOS, 192 symbols, EOS, in 9 rows of 24 targets, which are lanes of 5 and 4."""
    found = report(apelr("eval", "--checkpoint", planted, "--gold", "--format", "json"))
    model = load_checkpoint(planted).build_model(torch.device("cpu")).double().eval()
    tables = PlantedSource(PLANTED, seed=3)
    stream = tables.stream("validation")
    with torch.no_grad():
        states = read_target_by_target(model, [1, *(stream.symbols + 4).tolist(), 2], row=24, lane=120)
    pairs = []
    for last in range(6, 192, 8):
        # V2's chunks end with targets 6, 14, 22, 30: of the one that ends with 30 the first is in the row before.
        first = max(last - 7, last // 24 * 24)
        gold = Counter(int(stream.plans[t]) for t in range(first, last + 1))
        pairs.append((states[last], min(gold, key=lambda plan: (-gold[plan], plan))))
    recovery = found["recovery"]
    assert recovery["plans"] == ["0", "1", "2"]
    assert recovery["chunks"] == len(pairs)
    table = [[pairs.count((state, plan)) for plan in range(recovery["labels"])] for state in range(4)]
    assert recovery["filtered"]["table"] == table
    distance = matched_transition_distance(
        model.log_transition(),
        torch.tensor(recovery["filtered"]["matching"]),
        torch.from_numpy(tables.tables.transition),
    )
    assert recovery["transition"]["mean"] == pytest.approx(distance.mean)
    assert recovery["transition"]["rows"] == [None if row is None else pytest.approx(row) for row in distance.rows]
    skill = found["lookahead_skill"]
    assert [each["step"] for each in skill["steps"]] == [1, 2, 3]
    assert skill["rows"] == 5
    for size in (1, 2):  # one lane at a time: the rows in the order of the text
        again = report(apelr("eval", "--checkpoint", planted, "--gold", "--format", "json", "--batch-size", size))
        assert again["recovery"] == found["recovery"]
        assert again["lookahead_skill"]["meanings"] == [pytest.approx(row) for row in skill["meanings"]]
        for ours, theirs in zip(again["lookahead_skill"]["steps"], skill["steps"], strict=True):
            assert ours["forecast"] == pytest.approx(theirs["forecast"])
            assert ours["over_stationary"] == pytest.approx(theirs["over_stationary"])


def test_chunks_of_another_size_have_no_true_transitions(apelr: Run, planted: Path) -> None:
    arguments = ("eval", "--checkpoint", planted, "--gold", "--no-diagnostics", "--format", "json")
    found = report(apelr(*arguments, "--set", "data.planted.chunk_size=4"))
    assert found["recovery"]["transition"] is None
    assert "states" not in found


def test_stories_know_their_beats(apelr: Run, of_stories: Path) -> None:
    arguments = ("eval", "--checkpoint", of_stories, "--gold")
    found = report(apelr(*arguments, "--format", "json"))
    assert found["recovery"]["plans"] == list(BEATS)
    assert found["recovery"]["transition"] is None
    assert found["planner_mask_delta_loss"] is not None
    shown = apelr(*arguments)
    assert shown.exit_code == 0
    figure = found["recovery"]["smoothed"]["normalized_mutual_info"]
    assert f"{figure:.4f}\n" in shown.stdout
    assert "  state matched with each plan: opening " in shown.stdout
    assert "forecasts of the known plan (nats)" in shown.stdout
    cut = report(apelr(*arguments, "--format", "json", "--split", "train", "--set", "data.max_train_tokens=100"))
    assert 0 < cut["recovery"]["chunks"] < found["recovery"]["chunks"]


def test_too_little_text_for_forecasts_is_said(apelr: Run, of_stories: Path) -> None:
    result = apelr("eval", "--checkpoint", of_stories, "--gold", "--seq-len", 10_000, "--format", "json")
    assert report(result)["lookahead_skill"] is None
    assert result.stderr.endswith(
        "Note: no skill of forecasts: the rows to learn the states' meaning on hold no chunk with a known plan; "
        "give more rows\n"
    )


def test_steering_with_sentences_of_stories(apelr: Run, of_stories: Path) -> None:
    arguments = ("eval", "--checkpoint", of_stories, "--steering", 2)
    found = report(apelr(*arguments, "--format", "json"))["steering"]
    assert (found["texts_per_state"], found["tokens"], found["burn_in"], found["seed"]) == (2, 32, 8, 0)
    assert [sum(row) + short for row, short in zip(found["recovery"], found["too_short"], strict=True)] == [2] * 4
    assert found["beats"]["names"] == list(BEATS)
    again = report(apelr(*arguments, "--format", "json", "--steering-seed", 0, "--steering-tokens", 32))["steering"]
    other = report(apelr(*arguments, "--format", "json", "--steering-seed", 1))["steering"]
    assert found == again != other
    shown = apelr(*arguments)
    assert "steering: 2 texts of at most 32 tokens under each plan state, read again from token 9 on" in shown.stdout
    assert "beats of its sentences" in shown.stdout


def test_steering_on_a_text_without_beats(apelr: Run, of_stories: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("Once there was a dog. " * 9, encoding="utf-8")
    arguments = ("eval", "--checkpoint", of_stories, "--file", file, "--steering", 1)
    assert report(apelr(*arguments, "--format", "json"))["steering"]["beats"] is None
    assert "beats" not in apelr(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--gold", "--file", __file__), 2, "--gold compares with the plans of a corpus: give it without --file"),
        (("--steering", 0), 2, "--steering"),
        (("--steering", 2, "--steering-tokens", 8), 2, "--steering-tokens must be above 8, got 8: the first chunk of"),
        (("--steering", 2, "--no-diagnostics"), 2, "give it without --no-diagnostics"),
        (("--steering-tokens", 20), 2, "--steering-tokens and --steering-seed need --steering N"),
        (("--steering-seed", 0), 2, "--steering-tokens and --steering-seed need --steering N"),
        (("--tasks", "wikitext", "--gold"), 2, "--tasks brings its own texts"),
        (("--tasks", "wikitext", "--steering", 1), 2, "--tasks brings its own texts"),
    ],
)
def test_refusals(apelr: Run, of_stories: Path, arguments: tuple[object, ...], code: int, message: str) -> None:
    result = apelr("eval", "--checkpoint", of_stories, *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_a_corpus_without_known_plans(apelr: Run, of_stories: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Once there was a dog. " * 9, encoding="utf-8")
    keys = ("source=text", f"path={tmp_path / 'text.txt'}", f"val_path={tmp_path / 'text.txt'}")
    result = apelr("eval", "--checkpoint", of_stories, "--gold", *(f"--set=data.{key}" for key in keys))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: data.source text has no gold plans; storyworld and planted have"


@pytest.mark.parametrize("option", [("--gold",), ("--steering", 2)])
def test_controls_have_no_plan_to_compare_or_to_steer(apelr: Run, make_checkpoint: Make, option: Any) -> None:
    run = make_checkpoint(config=MixtureOfSoftmaxesConfig(num_plan_states=3, token_dim=5, hidden_dim=7))
    result = apelr("eval", "--checkpoint", run, "--set", "seed=1", *option)
    assert result.exit_code == 2
    assert f"{option[0]} is not for mixture_of_softmaxes, which has no chain of plans" in result.stderr


def test_one_state_cannot_be_steered(apelr: Run, make_checkpoint: Make) -> None:
    run = make_checkpoint(config=V2Config(num_plan_states=1, **SIZES))
    result = apelr("eval", "--checkpoint", run, "--set", "seed=1", "--steering", 2)
    assert result.exit_code == 2
    assert "--steering needs a model with two plan states or more, got 1" in result.stderr
