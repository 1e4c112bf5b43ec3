import errno

import click
import pytest
from click.testing import CliRunner

from apelr_cli.errors import ConfigError, FriendlyGroup


def run(raised: BaseException):
    @click.group(cls=FriendlyGroup)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise raised

    return CliRunner().invoke(group, ["fail"])


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("lr must be > 0, got -1"), "Error: lr must be > 0, got -1\n"),
        (ValueError("a must be 1\n  b  must be 2\n"), "Error: a must be 1; b must be 2\n"),
        (ValueError(), "Error: ValueError\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.yaml"),
            "Error: x.yaml: No such file or directory\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "Error: [Errno 28] No space left on device\n"),
        (OSError("the disk\nis gone"), "Error: the disk; is gone\n"),
        (OSError(), "Error: OSError\n"),
        (ConfigError("one"), "Error: one\n"),
        (ConfigError("one\ntwo"), "Error: 2 problems in the configuration:\n  one\n  two\n"),
        (click.ClickException("as it is"), "Error: as it is\n"),
    ],
)
def test_an_error_is_one_message_and_exit_code_1(raised, expected):
    result = run(raised)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)


def test_usage_errors_keep_exit_code_2():
    result = run(click.UsageError("give --prompt or --prompt-file"))
    assert result.exit_code == 2
    assert "Error: give --prompt or --prompt-file" in result.stderr


def test_ctrl_c_leaves_with_130():
    result = run(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_an_exit_code_of_the_command_stays():
    assert run(SystemExit(143)).exit_code == 143


def test_a_broken_pipe_ends_without_a_message():
    result = run(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (result.exit_code, result.stderr) == (1, "")


def test_a_mistake_of_ours_keeps_its_traceback():
    assert isinstance(run(AssertionError("ours")).exception, AssertionError)
