"""start-up: the command's help, and importing the model"""

import subprocess
import sys
from collections.abc import Iterator

from measured import Row, Run, at_most

from apelr_cli.benchmark_timing import Work

BARE = """
import click
@click.group()
def main(): 'A group.'
@main.command()
@click.option('--number', default=1, help='A number.')
def one(number): 'A command.'
main(['--help'])
"""


def rows(run: Run) -> Iterator[Row]:
    """Whole processes, wall time whatever the clock of the run: what they do lies outside this one."""
    run.clock = "wall"
    works = {
        "python": python("pass"),
        "click": python(BARE),
        "apelr --help": python("from apelr_cli.main import main; main(['--help'])"),
        "import torch": python("import torch"),
        "import apelr_model": python("import apelr_model"),
    }
    times = run.time(works)
    yield Row("`apelr --help` beside a bare click program", times.ratio("apelr --help", "click"), "x", at_most(2))
    ratio = times.ratio("import apelr_model", "import torch")
    yield Row("`import apelr_model` beside `import torch`", ratio, "x", at_most(1.05))
    for name in works:
        yield Row(name, times.each(name), "ms")


def python(program: str) -> Work:
    """A process that runs a program."""
    command = [sys.executable, "-c", program]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
