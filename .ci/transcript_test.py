"""Playing blocks of a page compares what is printed, stops where `^C` stands; pictures of terminals ask for nothing."""

import pytest
import terminal_picture
import transcript

ECHO = "printf 'reading 3 files\\nloss 0.25 at 1:07\\ndone\\n'"
STOP = "import os, signal, time; signal.signal(signal.SIGINT, lambda *_: os._exit(130))"
WAIT = f"python3 -c \"{STOP}; print('step 6'); print('step 60', flush=True); time.sleep(60)\""


def play(block: str) -> list[str]:
    return [transcript.play(command, seconds=30) for command in transcript.commands(block)]


def test_commands_stand_over_what_they_print() -> None:
    block = "$ a --b \\\n    c\none\n\n$ d\n"
    assert transcript.commands(block) == [("a --b c", ["one"]), ("d", [])]


@pytest.mark.parametrize("shown", ["", "reading 17 files", "…\nloss 2.5 at …\ndone", "reading 3 files\ndone"])
def test_lines_that_are_printed_may_be_shown(shown: str) -> None:
    assert play(f"$ {ECHO}\n{shown}") == ["reading 3 files\nloss 0.25 at 1:07\ndone\n"]


@pytest.mark.parametrize("shown", ["reading files", "done\nloss 0.25 at 1:07", "loss … at noon", "reading"])
def test_lines_that_are_not_printed_may_not(shown: str) -> None:
    with pytest.raises(AssertionError, match="did not print"):
        play(f"$ {ECHO}\n{shown}")


def test_an_error_is_an_error() -> None:
    with pytest.raises(AssertionError, match="left with 3"):
        play("$ exit 3")


def test_ctrl_c_comes_after_the_line_above_it() -> None:
    assert play(f"$ {WAIT}\nstep 60\n^C")[0].startswith("step 6\nstep 60\n")
    with pytest.raises(AssertionError, match="left with"):
        play("$ echo step 6\nstep 6\n^C")


def test_a_picture_of_a_terminal_has_its_colours_and_no_address_to_fetch() -> None:
    drawn = terminal_picture.picture("plain \x1b[48;2;1;2;3mcoloured\x1b[0m", "title")
    assert "#010203" in drawn
    assert "url(http" not in drawn
    assert "@font-face" not in drawn
