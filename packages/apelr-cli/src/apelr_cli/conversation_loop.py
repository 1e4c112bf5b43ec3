"""The loop of `apelr sample --interactive`: lines from a terminal or a pipe, turns and commands, Ctrl-C and Ctrl-D."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import click

from apelr_cli.conversation import Conversation, ConversationError
from apelr_cli.conversation_commands import ANSWERS, is_command, read_command
from apelr_cli.sample_row import SampleRow
from apelr_cli.sampling import SampleOutput
from apelr_cli.terminal_text import is_terminal
from apelr_cli.user_input import InputError, decode_utf8
from apelr_model import ImpossibleObservationError, NothingLeftError

__all__ = ["LineReader", "converse"]

WELCOME = "Type text to continue, or /help for the commands; Ctrl-D leaves."


def converse(
    conversation: Conversation, lines: "LineReader", make_output: Callable[[], SampleOutput], first: str | None
) -> None:
    """Turns until the lines end or one says /quit; `first` is the text of a turn before them.

    On a terminal what cannot be done is said, and the conversation goes on; from a pipe the first such line ends it:
    InputError, with the line's number.
    """
    if lines.is_terminal:
        click.echo(WELCOME, err=True)
    with _said_or_raised(lines):
        if first is not None:
            _turn(conversation, make_output(), first)
    while (line := lines.read()) is not None:
        with _said_or_raised(lines):
            if not is_command(line):
                _turn(conversation, make_output(), line.removeprefix("/") if line.startswith("//") else line)
                continue
            name, number = read_command(line)
            if name == "quit":
                return
            if name == "retry":
                _turn(conversation, make_output(), None)
            else:
                click.echo(ANSWERS[name](conversation, number), err=True)


def _turn(conversation: Conversation, output: SampleOutput, text: str | None) -> SampleRow:
    """Say `text`, or with None the last text again."""
    with ctrl_c_noted() as is_stopped:
        if text is None:
            return conversation.retry(output, is_stopped=is_stopped)
        return conversation.say(text, output, is_stopped=is_stopped)


@contextmanager
def _said_or_raised(lines: "LineReader") -> Iterator[None]:
    try:
        yield
    except (ConversationError, ImpossibleObservationError, NothingLeftError) as error:
        if not lines.is_terminal:
            raise InputError(f"{lines.place}{error}") from error
        click.echo(f"Error: {error}", err=True)


@contextmanager
def ctrl_c_noted() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C is noted, and the callable tells; a second one raises KeyboardInterrupt."""
    is_noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_noted
        if is_noted:
            raise KeyboardInterrupt
        is_noted = True

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: is_noted
    finally:
        signal.signal(signal.SIGINT, previous)


class LineReader:
    """Lines of text from standard input, those that end in a backslash joined: from a terminal, with a prompt and
    line editing where Python has it, or from a pipe."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin is not None and is_terminal(sys.stdin)
        self._number = 0
        if self.is_terminal:
            with suppress(ImportError):
                import readline  # noqa: F401 - input() then edits lines and remembers them

    @property
    def place(self) -> str:
        """Which line was read last, for messages; empty before the first."""
        return f"standard input, line {self._number}: " if self._number else ""

    def read(self) -> str | None:
        """The next line without its end, None at the end of input. At a terminal Ctrl-C drops what has been typed.

        Raises InputError where it is no UTF-8, KeyboardInterrupt for Ctrl-C where no terminal is read.
        """
        parts: list[str] = []
        while True:
            try:
                line = self._terminal_line("... " if parts else "> ") if self.is_terminal else self._piped_line()
            except KeyboardInterrupt:
                if not self.is_terminal:
                    raise
                click.echo(err=True)
                parts.clear()
                continue
            if line is None:
                return "\n".join(parts) if parts else None
            if not line.endswith("\\"):
                return "\n".join([*parts, line])
            if line.endswith("\\\\"):
                return "\n".join([*parts, line[:-1]])
            parts.append(line[:-1])

    def _terminal_line(self, prompt: str) -> str | None:
        if not is_terminal(sys.stdout):  # input() would write the prompt among the texts
            click.echo(prompt, nl=False, err=True)
            prompt = ""
        try:
            line = input(prompt)
        except EOFError:
            click.echo(err=True)
            return None
        try:
            line.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError("what was typed is not UTF-8: set the terminal and the locale to UTF-8") from error
        return line

    def _piped_line(self) -> str | None:
        if sys.stdin is None or sys.stdin.closed:
            return None
        line = sys.stdin.buffer.readline()
        if not line:
            return None
        self._number += 1
        return decode_utf8(line, f"standard input, line {self._number},").removesuffix("\n").removesuffix("\r")
