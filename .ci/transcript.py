"""Playing a `console run` block: its commands, what a page says that they print, and Ctrl-C where it says `^C`.

Below a command stand lines that it prints, on either stream. A shown line has to be among the printed ones, in the
shown order; a number stands for any number, `…` for anything. `^C` sends SIGINT once the line before it is there,
whose numbers stand for themselves.
"""

import os
import re
import signal
import subprocess
import threading
from typing import NamedTuple

__all__ = ["Command", "commands", "pattern", "play"]

INTERRUPT = "^C"
NUMBER = re.compile(r"\d[\d,.:]*(?:e[-+]?\d+)?")
STOPPED = 128 + signal.SIGINT


class Command(NamedTuple):
    """A command line, continued lines joined, and the lines shown below it."""

    text: str
    shown: list[str]


def commands(content: str) -> list[Command]:
    """The commands of a block: each line after `$ `, with what stands below it."""
    found: list[Command] = []
    for line in re.sub(r"\\\n\s*", "", content).splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif line.strip():
            assert found, f"a line before the first command: {line}"
            found[-1].shown.append(line.rstrip())
    return found


def pattern(shown: str, *, any_number: bool = True) -> re.Pattern[str]:
    """What a printed line has to be for a shown one: anything for `…`, and any number for a number."""
    parts = (NUMBER.split(part) if any_number else [part] for part in shown.split("…"))
    return re.compile(".*".join(NUMBER.pattern.join(map(re.escape, part)) for part in parts))


def play(command: Command, seconds: float) -> str:
    """Run a command in bash and return what it printed; AssertionError where that, or its exit code, is another.

    It is ended after so many seconds. One that `^C` stands below has to leave as a command stopped by SIGINT does.
    """
    wanted = [line for line in command.shown if line.strip("… ")]
    script = ["bash", "-euo", "pipefail", "-c", command.text]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "start_new_session": True}
    printed: list[str] = []
    with subprocess.Popen(script, **options) as process:
        clock = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        clock.start()
        for line in process.stdout:
            printed.append(line)
            stops = wanted[1:2] == [INTERRUPT]
            if wanted and pattern(wanted[0], any_number=not stops).fullmatch(line.rstrip()):
                del wanted[: 1 + stops]
                if stops:
                    os.killpg(process.pid, signal.SIGINT)
        clock.cancel()
    text = "".join(printed)
    expected = STOPPED if INTERRUPT in command.shown else 0
    assert process.returncode == expected, f"{command.text}\nleft with {process.returncode}:\n{text}"
    assert not wanted, f"{command.text}\ndid not print {wanted[0]!r} there, but:\n{text}"
    return text
