"""start-up: the command's help, and importing the model"""

import os
import subprocess
import sys
import tempfile
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
    programs = {
        "python": "pass",
        "click": BARE,
        "apelr --help": "from apelr_cli.main import main; main(['--help'])",
        "import torch": "import torch",
        "import apelr_model": "import apelr_model",
        "import torch, no garbage collector": "import gc; gc.disable(); import torch",
        "import apelr_model, no garbage collector": "import gc; gc.disable(); import apelr_model",
    }
    with tempfile.TemporaryDirectory() as bytecode:
        times = run.time({name: python(program, bytecode) for name, program in programs.items()})
    yield Row("`apelr --help` beside a bare click program", times.ratio("apelr --help", "click"), "x", at_most(2))
    ratio = times.ratio("import apelr_model", "import torch")
    yield Row("`import apelr_model` beside `import torch`", ratio, "x", at_most(1.05))
    ratio = times.ratio("import apelr_model, no garbage collector", "import torch, no garbage collector")
    yield Row("`import apelr_model` beside `import torch`, Python's garbage collector off in both", ratio)
    for name in programs:
        yield Row(name, times.each(name), "ms")


def python(program: str, bytecode: str) -> Work:
    """A process that runs a program. Bytecode lies in the folder `bytecode`, also where PYTHONDONTWRITEBYTECODE is set:
    what is installed has it, and sources compiled anew at every start would say nothing."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
