"""`apelr completion`: the scripts are there, and shells understand them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_asks_the_command_and_the_shell_can_parse_it(apelr: Run, shell: str, tmp_path: Path) -> None:
    result = apelr("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"_APELR_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(result.stdout, encoding="utf-8")
        subprocess.run([shell, "-n", str(script)], check=True, timeout=60)


def test_another_shell_is_a_usage_error(apelr: Run) -> None:
    result = apelr("completion", "tcsh")
    assert result.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_and_options(apelr: Run, tmp_path: Path) -> None:
    command = tmp_path / "apelr"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m apelr_cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (tmp_path / "script").write_text(apelr("completion", "bash").stdout, encoding="utf-8")
    ask = (
        "source script\n"
        "compopt() { :; }\n"
        'for words in "apelr doc" "apelr sample --inter" "apelr completion z"; do\n'
        "  COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()\n"
        '  _apelr_completion apelr; echo "${COMPREPLY[@]}"\n'
        "done\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines() == ["doctor", "--interactive", "zsh"]
