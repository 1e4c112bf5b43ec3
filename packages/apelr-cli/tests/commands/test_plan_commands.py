"""The options about the planner in the commands that have them: sampling agrees with scoring, and output says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from apelr_model import MixtureOfSoftmaxesConfig, TransformerConfig, TransformerLMConfig, V2Config
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]

SIZES: dict[str, Any] = {"token_dim": 6, "hidden_dim": 6}
V2 = V2Config(num_plan_states=3, chunk_size=3, async_planner=True, **SIZES)
CONFIGS = {
    "v1": None,
    "v2": V2,
    "v2_transformer": V2Config(num_plan_states=3, chunk_size=3, executor=TransformerConfig(num_heads=1), **SIZES),
    "v2_fed_back": V2Config(num_plan_states=3, chunk_size=3, lookahead_feedback_scale=0.5, **SIZES),
    "mixture_of_softmaxes": MixtureOfSoftmaxesConfig(num_plan_states=3, **SIZES),
    "transformer_lm": TransformerLMConfig(**SIZES),
}
BOTH = [("--planner-mode", "uniform"), ("--force-state", 1)]
OF_V2 = [
    ("--planner-temperature", 0.5, "--lookahead-horizon", 3, "--lookahead-feedback-scale", 0.6),
    ("--no-token-filtering",),
]
CASES = [
    *[(version, ()) for version in CONFIGS],
    *[(version, options) for version in ("v1", "v2", "mixture_of_softmaxes") for options in BOTH],
    *[(version, options) for version in ("v2", "v2_transformer", "v2_fed_back") for options in OF_V2],
    *[(version, ("--freeze-planner",)) for version in ("v1", "v2", "v2_transformer", "v2_fed_back")],
]


@pytest.fixture
def apelr(apelr: Run, device: str) -> Run:
    """The command on the device under test."""
    return lambda command, *arguments, **settings: apelr(command, "--device", device, *arguments, **settings)


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(("version", "options"), CASES)
def test_scoring_a_sample_under_the_same_options_gives_the_same_numbers(
    apelr: Run, make_checkpoint: Make, tmp_path: Path, version: str, options: tuple[object, ...]
) -> None:
    run = make_checkpoint(config=CONFIGS[version], dtype=torch.float64)
    arguments = ("--prompt", "the cat", "--max-new-tokens", 14, "--num-samples", 2, "--format", "json")
    for record in records(apelr("sample", "--checkpoint", run, *arguments, *options)):
        ids_file = tmp_path / "ids.json"
        ids_file.write_text(json.dumps(record["ids"]), encoding="utf-8")
        given = len(record["ids"]) - len(record["tokens"]) - 1
        same = ("--freeze-after", given) if options == ("--freeze-planner",) else options
        (scored,) = records(apelr("score", "--checkpoint", run, "--ids-file", ids_file, "--format", "json", *same))
        assert scored["gate"] == record["gate"]
        for generated, target in zip(record["tokens"], scored["tokens"][given:], strict=True):
            assert generated["log_prob"] == pytest.approx(target["log_prob"], rel=0, abs=1e-9)
            assert generated["belief"] == pytest.approx(target["belief"], rel=0, abs=1e-9)
            if options == ("--force-state", 1):
                assert target["belief"] == [0, 1, 0]
    control = version in ("mixture_of_softmaxes", "transformer_lm")
    causal = options or version == "v2_fed_back"
    assert record["gate"] == ("causal policy" if causal else "no plan" if control else "exact filter")


def test_text_says_where_the_gate_is_a_causal_policy(apelr: Run, make_checkpoint: Make) -> None:
    run = make_checkpoint(config=V2)
    note = "Note: the gate is a causal policy (plan state 2 is forced), not the exact filter\n"
    sample = ("sample", "--checkpoint", run, "--prompt", "a", "--max-new-tokens", 2)
    score = ("score", "--checkpoint", run, "--text", "a cat")
    for command in (sample, score):
        assert apelr(*command, "--force-state", 2).stderr == note
        assert apelr(*command).stderr == ""


@pytest.mark.parametrize("count", [1, 3])
def test_forecasts_beside_the_tokens_are_those_made_with_them(
    apelr: Run, make_checkpoint: Make, char: Tokenizer, count: int
) -> None:
    """The configuration asks for them beside the tokens; the option has the last word."""
    run = make_checkpoint(config=V2, dtype=torch.float64)
    arguments = ("sample", "--checkpoint", run, "--prompt", "a cat", "--max-new-tokens", 20, "--num-samples", count)
    ahead = (*arguments, "--lookahead-steps", 2)
    off = records(apelr(*arguments, "--format", "json"))
    sync = records(apelr(*ahead, "--format", "json", "--sync-lookahead"))
    beside = records(apelr(*ahead, "--format", "json"))
    for one, two, three in zip(off, sync, beside, strict=True):
        assert one == {**two, "lookahead": []} == {**three, "lookahead": []}
        assert [entry["position"] for entry in two["lookahead"]] == [entry["position"] for entry in three["lookahead"]]
        for ours, theirs in zip(two["lookahead"], three["lookahead"], strict=True):
            assert ours["forecast"][1] == pytest.approx(theirs["forecast"][1], abs=1e-12)
            assert ours["belief"] == theirs["belief"]
    texts = [apelr(*ahead, option) for option in ("--sync-lookahead", "--async-lookahead")]
    assert texts[0].stdout == texts[1].stdout
    assert sorted(texts[0].stderr.splitlines()) == sorted(texts[1].stderr.splitlines())
    assert len(texts[0].stderr.splitlines()) == sum(len(record["lookahead"]) for record in sync)


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        (
            "v1",
            ("--planner-temperature", 1.0),
            "--planner-temperature is not for v1_filtered_mixture; it belongs to v2_planner_required",
        ),
        (
            "v1",
            ("--no-token-filtering",),
            "--no-token-filtering is not for v1_filtered_mixture; it belongs to v2_planner_required",
        ),
        (
            "mixture_of_softmaxes",
            ("--lookahead-feedback-scale", 0.5),
            "--lookahead-feedback-scale is not for mixture_of_softmaxes; it belongs to v2_planner_required",
        ),
        ("v2", ("--lookahead-horizon", 10**400), "Invalid value for '--lookahead-horizon': "),
        ("v2", ("--force-state", 2**63), "Invalid value for '--force-state': "),
        ("v2", ("--force-state", 3), "--force-state must be between 0 and 2, got 3"),
        ("v2", ("--lookahead-feedback-scale", 2), "--lookahead-feedback-scale must be between 0 and 1, got 2.0"),
    ],
)
def test_refusals_are_one_line_that_names_the_option(
    apelr: Run, make_checkpoint: Make, version: str, options: tuple[object, ...], message: str
) -> None:
    run = make_checkpoint(config=CONFIGS[version])
    for command in (("sample", "--prompt", "a"), ("score", "--text", "a cat")):
        result = apelr(*command, "--checkpoint", run, *options)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")


def test_a_freeze_far_beyond_the_text(apelr: Run, make_checkpoint: Make) -> None:
    run = make_checkpoint(config=V2)
    arguments = ("score", "--checkpoint", run, "--text", "a cat", "--format", "json")
    (late,) = records(apelr(*arguments, "--freeze-after", 2**62))
    (plain,) = records(apelr(*arguments))
    for mine, theirs in zip(late["tokens"], plain["tokens"], strict=True):
        assert mine["belief"] == pytest.approx(theirs["belief"], abs=1e-12)
        assert mine["log_prob"] == pytest.approx(theirs["log_prob"], abs=1e-12)
    for value in (2**62 + 1, 99999999999999999999):
        result = apelr(*arguments, "--freeze-after", value)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("Error: Invalid value for '--freeze-after'")


def test_a_control_has_nothing_to_foresee_to_freeze_or_to_trace(apelr: Run, make_checkpoint: Make) -> None:
    for version in ("transformer_lm", "mixture_of_softmaxes"):
        run = make_checkpoint(config=CONFIGS[version])
        for kind in ("smoothed", "viterbi"):
            result = apelr("score", "--checkpoint", run, "--text", "a cat", "--plan", kind)
            assert result.exit_code == 2
            message = f"Error: --plan {kind} is not for {version}, which has no chain of plans"
            assert result.stderr.splitlines()[-1] == message
    run = make_checkpoint(config=CONFIGS["transformer_lm"])
    for options, start in (
        (("--lookahead-steps", 2), "--lookahead-steps is not for transformer_lm, which has no plan to foresee"),
        (("--freeze-planner",), "--freeze-planner is not for transformer_lm; it belongs to v2_planner_required"),
    ):
        result = apelr("sample", "--checkpoint", run, "--prompt", "a", *options)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(f"Error: {start}")
