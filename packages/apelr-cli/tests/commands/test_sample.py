import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import Result

from apelr_cli.commands.sample import sample
from apelr_cli.loading import load_model
from apelr_model import PlannerLM, SamplingSettings, V2Config, forecast
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def apelr(apelr: Run, device: str) -> Run:
    """The command on the device under test; an explicit --device after it counts."""
    return lambda command, *arguments, **settings: apelr(command, "--device", device, *arguments, **settings)


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# The forms of output


def test_text_is_the_prompt_its_continuation_and_a_newline(apelr: Run, make_checkpoint: Make) -> None:
    run = make_checkpoint()
    arguments = ("sample", "--checkpoint", run, "--prompt", "a cat", "--max-new-tokens", 30)
    (record,) = records(apelr(*arguments, "--format", "json"))
    result = apelr(*arguments)
    assert result.stdout == "a cat" + record["text"] + "\n"
    assert result.stderr == ""


def test_a_json_line_holds_every_id_and_token(apelr: Run, make_checkpoint: Make, bpe: Tokenizer) -> None:
    run = make_checkpoint(bpe, never=[bpe.eos_id])
    arguments = ("--prompt", "a cat", "--max-new-tokens", 40, "--num-samples", 3, "--format", "json")
    lines = records(apelr("sample", "--checkpoint", run, *arguments))
    assert len(lines) == 3
    prompt_ids = [bpe.bos_id, *bpe.encode("a cat").ids]
    for record in lines:
        assert list(record) == ["prompt", "text", "ids", "tokens", "lookahead", "gate"]
        assert record["prompt"] == "a cat"
        generated = [token["id"] for token in record["tokens"]]
        assert record["ids"] == prompt_ids + generated
        assert len(generated) == 40
        assert record["text"] == bpe.decode(generated) == "".join(token["text"] for token in record["tokens"])
        for position, token in enumerate(record["tokens"], start=len(prompt_ids) - 1):
            assert list(token) == ["id", "text", "log_prob", "chunk", "belief"]
            assert token["chunk"] == position // 3
            assert sum(token["belief"]) == pytest.approx(1)
        assert record["lookahead"] == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_settings_that_float32_rounds_to_zero_take_the_most_likely_token(
    apelr: Run, make_checkpoint: Make, version: str
) -> None:
    config = V2Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7) if version == "v2" else None
    prompt = ("--prompt", "a cat", "--max-new-tokens", 12, "--format", "json")
    arguments = ("sample", "--checkpoint", make_checkpoint(config=config), *prompt)
    (greedy,) = records(apelr(*arguments, "--temperature", 0))
    for value in ("1e-39", "1e-46", "1e-300"):
        (top,) = records(apelr(*arguments, "--top-p", value))
        assert top["ids"] == greedy["ids"]
        (cold,) = records(apelr(*arguments, "--temperature", value))
        # V1 mixes its states' own most likely tokens, which need not be the mixture's.
        assert cold["ids"] == greedy["ids"] if version == "v2" else len(cold["ids"]) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--async-lookahead",), "--async-lookahead shows nothing without forecasts: give --lookahead-steps N too"),
        (("--async-lookahead", "--lookahead-steps", 0), "--async-lookahead shows nothing without forecasts"),
        (("--max-new-tokens", 10**20), "Invalid value for '--max-new-tokens'"),
        (("--lookahead-steps", 10**20), "Invalid value for '--lookahead-steps'"),
        (("--num-samples", 10**20), "Invalid value for '--num-samples'"),
        (("--lookahead-horizon", 10**400), "Invalid value for '--lookahead-horizon'"),
    ],
)
def test_options_without_a_use_and_counts_without_a_meaning_are_refused(
    apelr: Run, make_checkpoint: Make, options: tuple[object, ...], message: str
) -> None:
    result = apelr("sample", "--checkpoint", make_checkpoint(), "--prompt", "a", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")


def test_several_texts_have_a_line_before_each(apelr: Run, make_checkpoint: Make) -> None:
    arguments = (
        "sample",
        "--checkpoint",
        make_checkpoint(),
        "--prompt",
        "the",
        "--num-samples",
        2,
        "--max-new-tokens",
        30,
    )
    first, second = records(apelr(*arguments, "--format", "json"))
    expected = f"--- sample 1 of 2 ---\nthe{first['text']}\n--- sample 2 of 2 ---\nthe{second['text']}\n"
    assert apelr(*arguments).stdout == expected


def test_end_of_text_is_part_of_ids_and_tokens_without_text(apelr: Run, make_checkpoint: Make, char: Tokenizer) -> None:
    run = make_checkpoint(never=set(range(char.vocab_size)) - {char.eos_id})
    (record,) = records(apelr("sample", "--checkpoint", run, "--prompt", "", "--format", "json"))
    assert record["ids"] == [char.bos_id, char.eos_id]
    assert record["tokens"][0]["text"] == record["text"] == ""


def test_a_stop_string_cuts_the_text_and_stays_in_the_tokens(
    apelr: Run, make_checkpoint: Make, char: Tokenizer
) -> None:
    arguments = (
        "sample",
        "--checkpoint",
        make_checkpoint(never=[char.eos_id]),
        "--prompt",
        "a",
        "--max-new-tokens",
        30,
    )
    (free,) = records(apelr(*arguments, "--format", "json"))
    stop = free["text"][6:8]
    (record,) = records(apelr(*arguments, "--format", "json", "--stop", "no such text", "--stop", stop))
    assert record["text"] == free["text"][: free["text"].index(stop)]
    assert "".join(token["text"] for token in record["tokens"]) == record["text"] + stop
    assert apelr(*arguments, "--stop", stop).stdout == "a" + record["text"] + "\n"


# Sampling agrees with scoring, and rows do not see each other


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("prompt", ["", "a", "the cat s", "a cat and a dog, a big old bed. the dog ran. " * 3])
@pytest.mark.parametrize(
    "options",
    [(), ("--temperature", 0.5, "--top-k", 9, "--top-p", 0.9, "--repetition-penalty", 1.3), ("--temperature", 0)],
)
def test_scoring_the_ids_gives_the_same_numbers(
    apelr: Run,
    make_checkpoint: Make,
    tmp_path: Path,
    dtype: torch.dtype,
    tolerance: float,
    prompt: str,
    options: tuple[object, ...],
) -> None:
    run = make_checkpoint(dtype=dtype)
    arguments = ("--prompt", prompt, "--max-new-tokens", 14, "--num-samples", 3, "--format", "json", *options)
    for record in records(apelr("sample", "--checkpoint", run, *arguments)):
        ids_file = tmp_path / "ids.json"
        ids_file.write_text(json.dumps(record["ids"]), encoding="utf-8")
        scored = apelr("score", "--checkpoint", run, "--ids-file", ids_file, "--format", "json")
        targets = json.loads(scored.stdout)["tokens"][-len(record["tokens"]) :]
        for generated, target in zip(record["tokens"], targets, strict=True):
            assert generated["id"] == target["id"]
            assert generated["chunk"] == target["chunk"]
            assert generated["log_prob"] == pytest.approx(target["log_prob"], rel=0, abs=tolerance)
            assert generated["belief"] == pytest.approx(target["belief"], rel=0, abs=tolerance)


def test_a_seed_gives_the_same_sample_alone_and_in_a_batch(apelr: Run, make_checkpoint: Make) -> None:
    arguments = (
        "sample",
        "--checkpoint",
        make_checkpoint(),
        "--prompt",
        "the cat",
        "--max-new-tokens",
        40,
        "--format",
        "json",
    )
    together = records(apelr(*arguments, "--seed", 5, "--num-samples", 4))
    alone = [records(apelr(*arguments, "--seed", 5 + index))[0] for index in range(4)]
    assert [record["ids"] for record in together] == [record["ids"] for record in alone]
    assert [record["text"] for record in together] == [record["text"] for record in alone]
    assert len({record["text"] for record in together}) == 4


# Lookahead


def test_lookahead_shows_forecasts_and_changes_nothing(apelr: Run, make_checkpoint: Make, char: Tokenizer) -> None:
    run = make_checkpoint(dtype=torch.float64, never=[char.eos_id])
    arguments = ("sample", "--checkpoint", run, "--prompt", "a cat", "--max-new-tokens", 12, "--format", "json")
    (plain,), (record,) = records(apelr(*arguments)), records(apelr(*arguments, "--lookahead-steps", 4))
    assert {key: record[key] for key in ("prompt", "text", "ids", "tokens")} == {
        key: plain[key] for key in ("prompt", "text", "ids", "tokens")
    }
    positions = [entry["position"] for entry in record["lookahead"]]
    assert positions == [5, 6, 9, 12, 15]
    log_transition = load_model(run, "cpu").model.planner.log_transition().detach()
    for entry in record["lookahead"]:
        token = record["tokens"][entry["position"] - 5]
        assert record["ids"][entry["position"] + 1] == token["id"]
        assert (entry["chunk"], entry["belief"]) == (token["chunk"], token["belief"])
        belief = torch.tensor(entry["belief"], dtype=torch.float64)
        expected = forecast(belief.log(), log_transition, 4).exp()
        assert torch.allclose(torch.tensor(entry["forecast"], dtype=torch.float64), expected, atol=1e-9)


def test_forecasts_in_text_mode_go_to_standard_error(apelr: Run, make_checkpoint: Make, char: Tokenizer) -> None:
    run = make_checkpoint(never=[char.eos_id])
    arguments = ("sample", "--checkpoint", run, "--prompt", "a cat", "--max-new-tokens", 4)
    shown = apelr(*arguments, "--lookahead-steps", 2)
    assert shown.stdout == apelr(*arguments).stdout
    state = r"\d:\d\.\d\d"
    belief = f"{state} {state} {state}"
    lines = shown.stderr.splitlines()
    assert len(lines) == 2
    for line, place in zip(lines, (r"chunk 1 \(position 5\)", r"chunk 2 \(position 6\)"), strict=True):
        assert re.fullmatch(rf"{place}: now {belief} \| \+1 {belief} \| \+2 {belief}", line)


# Where the prompt comes from


def test_the_three_ways_to_give_a_prompt_are_equal(apelr: Run, make_checkpoint: Make, tmp_path: Path) -> None:
    run = make_checkpoint()
    file = tmp_path / "prompt.txt"
    file.write_text("the cat", encoding="utf-8")
    arguments = ("sample", "--checkpoint", run, "--max-new-tokens", 20)
    given = apelr(*arguments, "--prompt", "the cat").stdout
    assert apelr(*arguments, "--prompt-file", file).stdout == given
    assert apelr(*arguments, input="the cat").stdout == given
    assert apelr(*arguments, "--prompt", "the cat", input="a dog").stdout == given


@pytest.mark.parametrize("arguments", [("--prompt", ""), ()])
def test_an_empty_prompt_starts_from_nothing(
    apelr: Run, make_checkpoint: Make, char: Tokenizer, arguments: tuple[str, ...]
) -> None:
    run = make_checkpoint(never=[char.eos_id])
    (record,) = records(apelr("sample", "--checkpoint", run, *arguments, "--max-new-tokens", 2, "--format", "json"))
    assert record["ids"][0] == char.bos_id
    assert len(record["ids"]) == 3
    assert record["tokens"][0]["chunk"] == 0


def test_the_prompt_is_used_as_it_is(apelr: Run, make_checkpoint: Make, bpe: Tokenizer) -> None:
    text = " é\r\n<bos>\n"
    arguments = ("sample", "--checkpoint", make_checkpoint(bpe), "--max-new-tokens", 0, "--format", "json")
    (record,) = records(apelr(*arguments, input=text.encode()))
    assert record["prompt"] == text
    assert record["ids"] == [bpe.bos_id, *bpe.encode(text).ids]


def test_unknown_characters_are_warned_of_once(apelr: Run, make_checkpoint: Make) -> None:
    result = apelr(
        "sample", "--checkpoint", make_checkpoint(), "--prompt", "a CAT A", "--num-samples", 2, "--max-new-tokens", 3
    )
    assert result.exit_code == 0
    assert result.stderr == (
        "Warning: 4 characters are unknown to the tokenizer and read as <unk>: 'C' (1), 'A' (2), 'T' (1)\n"
    )


def test_a_terminal_without_a_prompt_is_a_usage_error(start_apelr: Start, make_checkpoint: Make) -> None:
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    process = start_apelr("sample", "--checkpoint", make_checkpoint(), stdin=terminal)
    out, err = process.communicate(timeout=900)
    os.close(controller)
    os.close(terminal)
    assert (process.returncode, out) == (2, b"")
    assert b"no prompt: give --prompt TEXT or --prompt-file FILE, or pipe text into standard input" in err


# Speed


def test_compile_and_weights_are_for_the_model(
    apelr: Run, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[PlannerLM] = []
    monkeypatch.setattr(PlannerLM, "compile_decoding", lambda model: compiled.append(model))
    wide = make_checkpoint(config=V2Config(num_plan_states=2, chunk_size=3, token_dim=5, hidden_dim=64))
    arguments = ("sample", "--checkpoint", wide, "--prompt", "a", "--max-new-tokens", "9", "--format", "json")
    plain, same, close = (
        records(apelr(*arguments, *options)) for options in ((), ("--compile",), ("--compile", "--weights", "bf16"))
    )
    assert plain == same
    assert plain != close
    assert [model.weight_form for model in compiled] == [None, "bf16"]


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "a", "--prompt-file", __file__), "give either --prompt or --prompt-file, not both"),
        (("--prompt-file", "no-such-file"), "File 'no-such-file' does not exist"),
        (("--prompt", "a", "--stop", ""), "a stop text must not be empty"),
        (("--prompt", "a", "--temperature", "-1"), "--temperature must be >= 0 and finite, got -1.0"),
        (("--prompt", "a", "--temperature", "nan"), "--temperature must be >= 0 and finite, got nan"),
        (("--prompt", "a", "--top-k", "-2"), "--top-k must be >= 0, got -2"),
        (("--prompt", "a", "--top-p", "0"), "--top-p must be > 0 and <= 1, got 0.0"),
        (
            ("--prompt", "a", "--repetition-penalty", "0.5"),
            "--repetition-penalty must be >= 1 and finite, got 0.5",
        ),
        (("--prompt", "a", "--no-repeat-ngram-size", "-1"), "--no-repeat-ngram-size must be >= 0, got -1"),
        (("--prompt", "a", "--max-new-tokens", "-1"), "-1 is not in the range"),
        (("--prompt", "a", "--num-samples", "0"), "0 is not in the range"),
        (("--prompt", "a", "--lookahead-steps", "-1"), "-1 is not in the range"),
        (("--prompt", "a", "--seed", "-1"), "-1 is not in the range"),
        (("--prompt", "a", "--device", "tpu"), "'tpu' is not one of"),
        (("--prompt", "a", "--weights", "int4"), "'int4' is not one of"),
        (("--prompt", "a", "--weights", "int8"), "--weights int8 needs --compile"),
        (("--interactive", "--compile"), "leave out --compile"),
        (("--prompt", "a", "--format", "xml"), "'xml' is not one of"),
    ],
)
def test_wrong_options_are_usage_errors(
    apelr: Run, make_checkpoint: Make, arguments: tuple[str, ...], message: str
) -> None:
    result = apelr("sample", "--checkpoint", make_checkpoint(), *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_a_checkpoint_is_needed(apelr: Run) -> None:
    result = apelr("sample", "--prompt", "a")
    assert result.exit_code == 2
    assert "Missing option '--checkpoint'" in result.stderr


def test_errors_about_files_are_one_line(apelr: Run, make_checkpoint: Make, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    result = apelr("sample", "--checkpoint", make_checkpoint(), "--prompt-file", latin)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {latin} is not UTF-8: byte 0xe9 at offset 3; save it as UTF-8\n"
    result = apelr("sample", "--checkpoint", tmp_path / "gone", "--prompt", "a")
    assert result.exit_code == 1
    assert result.stderr == f"Error: checkpoint not found: {tmp_path / 'gone'}\n"


def test_a_sample_that_cannot_go_on_is_one_line_after_the_text(
    apelr: Run, make_checkpoint: Make, char: Tokenizer
) -> None:
    run = make_checkpoint(never=[char.eos_id])
    result = apelr("sample", "--checkpoint", run, "--prompt", "a", "--no-repeat-ngram-size", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no token is left to sample")
    assert result.stderr.count("\n") == 1
    assert re.fullmatch(r"a[^\n]+\n", result.stdout)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_one_line(apelr: Run, make_checkpoint: Make) -> None:
    result = apelr("sample", "--checkpoint", make_checkpoint(), "--prompt", "a", "--device", "cuda")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: device must be")
    assert result.stderr.endswith("got cuda\n")


# The process


def endless(start_apelr: Start, make_checkpoint: Make, tokenizer: Tokenizer, **settings: Any) -> Any:
    run = make_checkpoint(tokenizer, never=[tokenizer.eos_id])
    return start_apelr("sample", "--checkpoint", run, "--prompt", "a cat", "--max-new-tokens", 10**9, **settings)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole process groups")
def test_text_streams_and_ctrl_c_leaves_with_130(start_apelr: Start, make_checkpoint: Make, char: Tokenizer) -> None:
    process = endless(start_apelr, make_checkpoint, char)
    assert process.stdout.read(20).startswith(b"a cat")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 130
    assert err == b"Interrupted.\n"
    assert out.endswith(b"\n")


def test_a_reader_that_goes_away_ends_it_quietly(start_apelr: Start, make_checkpoint: Make, char: Tokenizer) -> None:
    process = endless(start_apelr, make_checkpoint, char)
    assert process.stdout.read(5) == b"a cat"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=900) == 1


def test_output_is_utf8_whatever_the_environment_says(start_apelr: Start, make_checkpoint: Make) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = ("--prompt", "é", "--max-new-tokens", 0)
    process = start_apelr("sample", "--checkpoint", make_checkpoint(), *arguments, env=environment)
    out, _ = process.communicate(timeout=900)
    assert out == "é\n".encode()


# Help


def test_help_waits_for_no_heavy_import() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from apelr_cli.main import main\n"
        "for command in ('sample', 'score'):\n"
        "    assert CliRunner().invoke(main, [command, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'tokenizers', 'apelr_model', 'apelr_tokenizers', 'apelr_data', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)


@pytest.mark.parametrize("name", ["sample", "score"])
def test_every_option_is_explained(apelr: Run, name: str) -> None:
    command = getattr(importlib.import_module(f"apelr_cli.commands.{name}"), name)
    shown = apelr(name, "--help").stdout
    for option in command.params:
        assert isinstance(option, click.Option)
        assert option.help, option.name
        assert all(flag in shown for flag in option.opts)


def test_the_help_states_the_defaults_of_the_sampling_settings() -> None:
    stated = {option.name: re.search(r"\[default: (\S+)\]$", option.help or "") for option in sample.params}
    for field in fields(SamplingSettings):
        found = stated[field.name]
        assert found, field.name
        assert found[1] == str(field.default)


def test_the_options_are_those_of_the_interface() -> None:
    names = {flag for option in sample.params for flag in option.opts}
    assert names == {
        *("--checkpoint", "--prompt", "--prompt-file", "--max-new-tokens", "--temperature", "--top-k", "--top-p"),
        *("--repetition-penalty", "--no-repeat-ngram-size", "--stop", "--lookahead-steps", "--seed"),
        *("--num-samples", "--device", "--format", "--tokenizer", "--allow-unexpected", "--async-lookahead"),
        *("--force-state", "--freeze-planner", "--planner-mode", "--planner-temperature", "--no-token-filtering"),
        *("--lookahead-horizon", "--lookahead-feedback-scale", "--show-plan", "--color", "--interactive"),
        *("--compile", "--weights"),
    }
