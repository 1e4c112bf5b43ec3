"""`apelr sample --show-plan` and what a terminal is shown."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from apelr_model import MixtureOfSoftmaxesConfig, TransformerLMConfig, V2Config
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]

V2 = V2Config(num_plan_states=3, chunk_size=3, token_dim=5, hidden_dim=7)


@pytest.mark.parametrize("config", [None, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("extra", [(), ("--num-samples", 3), ("--force-state", 2), ("--freeze-planner",)])
def test_the_plan_that_is_shown_is_the_belief_of_json_and_the_text_is_the_same(
    apelr: Run, make_checkpoint: Make, char: Tokenizer, config: Any, extra: tuple[object, ...]
) -> None:
    run = make_checkpoint(config=config, never=[char.eos_id])
    arguments = ("sample", "--checkpoint", run, "--prompt", "a cat", "--max-new-tokens", 25, *extra)
    records = [json.loads(line) for line in apelr(*arguments, "--format", "json").stdout.splitlines()]
    result = apelr(*arguments, "--show-plan")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    shown = re.split(r"--- sample \d of 3 ---\n", result.stdout)
    for record, text in zip(records, shown[-len(records) :], strict=True):
        expected, last, counts = "a cat", None, {0: 0, 1: 0, 2: 0}
        for token in record["tokens"]:
            state = max(range(3), key=token["belief"].__getitem__)
            if token["text"]:  # special tokens have none
                expected += (f"[{state}]" if state != last else "") + token["text"]
                last = state
            counts[state] += 1
        assert text.startswith(expected + "\n")
        for state, count in counts.items():
            assert (f"  [{state}] {count / 25:>6.1%}" in text) == (count > 0)
        assert re.search(r"\nforecast: chunk \d+ \(position 29\): now .*\| \+3 [^|]*\n$", text)


def test_colours_that_are_asked_for_leave_the_text(apelr: Run, make_checkpoint: Make, char: Tokenizer) -> None:
    arguments = ("sample", "--checkpoint", make_checkpoint(never=[char.eos_id]), "--prompt", "a", "--show-plan")
    numbers, colours = apelr(*arguments), apelr(*arguments, "--color", "always")
    assert "\x1b[" in colours.stdout
    assert re.sub(r"\x1b\[[\d;]*m", "", colours.stdout) == numbers.stdout
    assert apelr(*arguments, "--color", "never").stdout == numbers.stdout


@pytest.mark.parametrize("config", [MixtureOfSoftmaxesConfig(hidden_dim=8), TransformerLMConfig(hidden_dim=8)])
def test_a_model_without_a_chain_of_plans_is_refused(apelr: Run, make_checkpoint: Make, config: Any) -> None:
    result = apelr("sample", "--checkpoint", make_checkpoint(config=config), "--prompt", "a", "--show-plan")
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last == f"Error: --show-plan is not for {config.version}, which has no chain of plans"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--show-plan", "--format", "json"),
            "--show-plan is for --format text; JSON has the belief before every token",
        ),
        (("--color", "always"), "--color says how --show-plan shows plan states: give --show-plan too"),
        (("--show-plan", "--color", "often"), "Invalid value for '--color'"),
        (("--interactive", "--format", "json"), "--interactive is for --format text"),
        (("--interactive", "--num-samples", 2), "--interactive is one text: give it without --num-samples"),
        (("--interactive", "--compile"), "--interactive goes without --compile"),
    ],
)
def test_options_that_do_not_go_together(apelr: Run, options: tuple[object, ...], message: str) -> None:
    result = apelr("sample", "--checkpoint", "no-such-run", "--prompt", "a", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")


def test_a_pipe_gets_control_characters_and_a_terminal_sees_them(
    apelr: Run, start_apelr: Callable[..., Any], make_checkpoint: Make, bpe: Tokenizer
) -> None:
    run = make_checkpoint(bpe, never=set(range(bpe.vocab_size)) - {bpe.encode("\x1b").ids[0]})
    arguments = ("sample", "--checkpoint", run, "--prompt", "\x1b", "--max-new-tokens", 2)
    assert apelr(*arguments).stdout == "\x1b\x1b\x1b\n"
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    process = start_apelr(*arguments, stdout=terminal)
    assert process.wait(timeout=300) == 0
    os.close(terminal)
    assert os.read(controller, 1000).decode() == "\\x1b\\x1b\\x1b\r\n"
    os.close(controller)
