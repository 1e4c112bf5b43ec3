"""`apelr sample --interactive`: piped, at a terminal, and interrupted."""

import os
import re
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from apelr_cli.conversation_loop import WELCOME
from apelr_tokenizers import Tokenizer

Run = Callable[..., Result]
Make = Callable[..., Path]


@pytest.fixture
def talk(apelr: Run, make_checkpoint: Make, char: Tokenizer, device: str) -> Callable[..., Result]:
    run = make_checkpoint(never=[char.eos_id])
    asked = ("sample", "--device", device, "--checkpoint", run, "--interactive", "--max-new-tokens", 6)
    return lambda lines, *options: apelr(*asked, *options, input=lines)


def test_the_first_turn_is_what_sample_draws_and_turns_go_on(
    talk: Callable[..., Result], apelr: Run, make_checkpoint: Make, char: Tokenizer
) -> None:
    asked = ("sample", "--checkpoint", make_checkpoint(never=[char.eos_id]), "--prompt", "a cat", "--seed", 5)
    (plain,) = apelr(*asked, "--max-new-tokens", 6).stdout.splitlines()
    result = talk("a cat\n\n/text\n", "--seed", 5)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2)
    first, second = result.stdout.splitlines()
    assert "a cat" + first == plain
    assert result.stderr == f"a cat{first}{second}\n"
    assert talk("\n", "--seed", 5, "--prompt", "a cat").stdout == result.stdout


def test_lines_are_text_as_they_stand(apelr: Run, make_checkpoint: Make, bpe: Tokenizer) -> None:
    asked = ("sample", "--checkpoint", make_checkpoint(bpe), "--interactive", "--max-new-tokens", 0)
    lines = (" a cat ", "two\\\nlines", "a slash\\\\", "//first", "\\x1b \x1b")
    texts = (" a cat ", "two\nlines", "a slash\\", "/first", "\\x1b \\x1b")
    result = apelr(*asked, input="".join(f"{line}\n/text\n/undo\n" for line in lines))
    assert result.exit_code == 0
    assert result.stderr.split("took back a turn; 0 turns and 0 tokens are left\n") == [*(f"{t}\n" for t in texts), ""]


def test_options_of_sampling_apply_to_every_turn(talk: Callable[..., Result]) -> None:
    greedy = talk("the\n/undo\n/seed 9\nthe\n", "--temperature", 0)
    first, second = greedy.stdout.splitlines()
    assert first == second
    shown = talk("the\n\n", "--show-plan", "--lookahead-steps", 1)
    assert shown.stdout.count("the likeliest before each of 6 tokens:") == 2
    assert re.fullmatch(r"(chunk \d+ \(position \d+\): now .* \| \+1 .*\n)+", shown.stderr)
    forced = talk("the\n/belief\n", "--force-state", 1)
    assert "Note: the gate is a causal policy (plan state 1 is forced)" in forced.stderr
    assert forced.stderr.endswith(" | state 1 is forced\n")
    beside = talk("the\n", "--lookahead-steps", 1, "--async-lookahead")
    assert beside.stdout == talk("the\n").stdout
    assert beside.stderr.startswith("chunk ")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a\n/forse 1\nb\n", "Error: standard input, line 2: unknown command /forse; did you mean /force?"),
        (b"a\n\xff\n", "Error: standard input, line 2, is not UTF-8: byte 0xff at offset 0; save it as UTF-8"),
        ("/undo\n", "Error: standard input, line 1: there is no turn to take back"),
    ],
)
def test_a_wrong_line_of_a_pipe_ends_it(talk: Callable[..., Result], lines: str | bytes, message: str) -> None:
    result = talk(lines)
    assert (result.exit_code, result.stderr) == (1, message + "\n")


def test_quit_leaves_what_follows_alone(talk: Callable[..., Result]) -> None:
    result = talk("/quit\n/nonsense\n")
    assert (result.exit_code, result.output) == (0, "")


def test_a_turn_with_nothing_left_to_draw_is_one_line_and_can_be_taken_back(talk: Callable[..., Result]) -> None:
    result = talk("the\n", "--no-repeat-ngram-size", 1, "--max-new-tokens", 100)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: standard input, line 1: no token is left to sample")


def read_until(descriptor: int, wanted: bytes, when_silent: Callable[[], object] = lambda: None) -> bytes:
    """What a terminal shows until `wanted` has come; fails where it does not within two minutes.

    `when_silent` is called whenever nothing has come for five seconds.
    """
    seen, end = b"", time.monotonic() + 120
    while wanted not in seen:
        assert time.monotonic() < end, seen
        if select.select([descriptor], [], [], 5)[0]:
            seen += os.read(descriptor, 4096)
        else:
            when_silent()
    return seen


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_terminal_is_prompted_ctrl_c_stops_the_text_and_ctrl_d_leaves(
    start_apelr: Callable[..., Any], make_checkpoint: Make, char: Tokenizer
) -> None:
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    run = make_checkpoint(never=[char.eos_id])
    process = start_apelr(
        *("sample", "--checkpoint", run, "--interactive", "--max-new-tokens", 10**9),
        **{"stdin": terminal, "stdout": terminal, "stderr": terminal},
    )
    os.close(terminal)
    assert WELCOME.encode() in read_until(controller, b"> ")
    os.write(controller, b"/forse\n")
    read_until(controller, b"Error: unknown command /forse; did you mean /force?\r\n> ")
    os.write(controller, b"the cat\n")
    shown = read_until(controller, b"the cat\r\n")
    while len(shown) < 200:
        shown += os.read(controller, 200)
    process.send_signal(signal.SIGINT)
    read_until(controller, b"> ")
    os.write(controller, b"half a line")
    read_until(controller, b"half a line")
    process.send_signal(signal.SIGINT)
    # While Python's line editor handles a key it only notes a signal, and it acts on it at the next key, or signal.
    read_until(controller, b"> ", lambda: process.send_signal(signal.SIGINT))
    os.write(controller, b"/belief\n")
    assert re.search(rb"belief after \d+ tokens: \d:", read_until(controller, b"\r\n> "))
    os.write(controller, b"\x04")
    assert process.wait(timeout=120) == 0
    os.close(controller)
