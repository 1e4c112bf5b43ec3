import importlib.util
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import click
import pytest

from apelr_cli.main import COMMANDS, main

HEAVY = ("torch", "rich", "pydantic", "yaml", "tokenizers", "datasets", "numpy", "apelr_model", "apelr_data")


def python(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | variables
    )
    return done.stdout


def exists(command: str) -> bool:
    return importlib.util.find_spec(f"apelr_cli.commands.{command}") is not None


def heavy_after(code: str, **variables: str) -> str:
    ending = f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    return python(f"import sys\ntry:\n  {code}\nexcept SystemExit: pass\n{ending}", **variables)


def test_help_lists_every_command_with_its_line_and_imports_nothing_heavy():
    out = heavy_after("from apelr_cli.main import main; main(['--help'])")
    for name, line in COMMANDS.items():
        assert f"{name} " in out
        assert line in out
    assert out.endswith("HEAVY []\n")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("apelr tr", "plain,train"), ("apelr ", "plain,config"), ("apelr --ver", "plain,--version")]
    + [("apelr config quick", "plain,quickstart"), ("apelr config --he", "plain,--help")]
    + [(f"apelr {name} --", "plain,--help") for name in ("train", "sample", "score") if exists(name)],
)
def test_completion_answers_and_imports_nothing_heavy(typed, expected):
    out = heavy_after(
        "from apelr_cli.main import main; main(prog_name='apelr')",
        _APELR_COMPLETE="bash_complete",
        COMP_WORDS=typed,
        COMP_CWORD=str(typed.count(" ")),
    )
    assert expected in out.splitlines()
    assert out.endswith("HEAVY []\n")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_command_is_what_the_list_says(name):
    if not exists(name):
        pytest.skip(f"commands/{name}.py is not there")
    command = main.get_command(click.Context(main), name)
    assert command.name == name
    assert " ".join(command.help.split()).startswith(COMMANDS[name].removesuffix("."))


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_option_has_help(name):
    if not exists(name):
        pytest.skip(f"commands/{name}.py is not there")
    for parameter in main.get_command(click.Context(main), name).params:
        assert isinstance(parameter, click.Argument) or parameter.help, f"{name} {parameter.opts} has no help"


def test_an_unknown_command_is_a_usage_error(apelr):
    result = apelr("trian")
    assert result.exit_code == 2
    assert "No such command 'trian'; did you mean train?" in result.stderr
    assert "No such command 'zzz'." in apelr("zzz").stderr


def test_no_command_shows_the_help(apelr):
    assert "Commands:" in apelr().output


def test_version(apelr):
    try:
        packages = ("apelr-cli", "apelr-tokenizers", "apelr-data", "apelr-model", "torch")
        own, *rest = [f"{name} {version(name)}" for name in packages]
    except PackageNotFoundError:
        pytest.skip("apelr-cli is not installed, so it has no version")
    result = apelr("--version")
    assert result.exit_code == 0
    expected = f"apelr, version {own.split()[1]}\n{', '.join(rest)}, Python {platform.python_version()}\n"
    assert result.output == expected


def test_version_imports_nothing_heavy():
    assert heavy_after("from apelr_cli.main import main; main(['--version'])").endswith("HEAVY []\n")


def test_python_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "apelr_cli", "--help"], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.startswith("Usage: apelr [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("config",), 0, ""),
        (("config", "no-such-config"), 1, "Error: "),
        (("score", "--checkpoint", "no-such-run", "--text", "a"), 1, "Error: checkpoint not found: no-such-run"),
        (("sample", "--no-such-option"), 2, "Usage: "),
        (("sample", "--checkpoint", "no-such-run", "--prompt", "a", "--top-p", "2"), 2, "Usage: "),
    ],
)
def test_exit_codes_are_those_of_the_page_on_commands(apelr, arguments, code, message):
    if not exists(arguments[0]):
        pytest.skip(f"commands/{arguments[0]}.py is not there")
    result = apelr(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.output


def test_ctrl_c_leaves_with_130(apelr, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("apelr_cli.versions.version_text", interrupted)
    monkeypatch.setattr("apelr_cli.shipped.shipped_names", interrupted)
    result = apelr("config")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "Interrupted.")
