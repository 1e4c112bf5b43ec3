"""What is around: the hub and its variables, the folders that are written, text encodings, the terminal."""

import locale
import os
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from apelr_cli.doctor_findings import Finding, State
from apelr_cli.terminal_text import is_terminal

__all__ = ["folder_findings", "hub_findings", "text_findings"]

HUB = "https://huggingface.co"
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
TRUE = {"1", "ON", "YES", "TRUE"}
"""What the hub's library takes for yes."""
SECONDS = 5.0
"""How long the hub may take to answer."""
LITTLE = 2**30
"""Bytes: below it a disk is said to be nearly full."""


def hub_findings(*, ask: bool) -> Iterator[Finding]:
    """What decides whether the hub is read; with `ask` also whether it answers, which takes some seconds at most."""
    told = [f"{name}={os.environ[name]}" for name in OFFLINE if os.environ.get(name)]
    yield Finding("Hugging Face hub", "offline variables", ", ".join(told) or "none is set")
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        fix = f"unset HF_ENDPOINT, or set it to an address such as {HUB}"
        yield Finding("Hugging Face hub", "HF_ENDPOINT", "is no http or https address", "problem", fix)
        return
    host = parts.hostname  # the rest may hold a password
    yield Finding("Hugging Face hub", "endpoint", f"{host}{'' if endpoint == HUB else ' (HF_ENDPOINT)'}")
    if not ask:
        yield Finding("Hugging Face hub", "answers", "not asked (--network asks)")
    elif any(os.environ.get(name, "").upper() in TRUE for name in OFFLINE):
        yield Finding("Hugging Face hub", "answers", "not asked: an offline variable is set")
    else:
        failure = _failure_to_reach(endpoint)
        if failure is None:
            yield Finding("Hugging Face hub", "answers", "yes")
        else:
            fix = "check the network, HTTPS_PROXY and HF_ENDPOINT, or use a source without download (apelr data list)"
            yield Finding("Hugging Face hub", "answers", f"no: {failure}", "problem", fix)


def _failure_to_reach(endpoint: str) -> str | None:
    """Why the endpoint does not answer in time; None where it does, whatever it says."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            with urllib.request.urlopen(request, timeout=SECONDS):
                outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)
        except (OSError, ValueError) as error:
            outcome.append(" ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__)

    asking = threading.Thread(target=ask, name="apelr-doctor", daemon=True)  # looking a name up knows no time limit
    asking.start()
    asking.join(2 * SECONDS)
    return outcome[0] if outcome else f"nothing within {2 * SECONDS:g} seconds"


def folder_findings() -> Iterator[Finding]:
    """Whether the folders can be written, and how much room they have."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    hub = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    yield _folder("runs", Path("runs"), "problem", "go to another folder, or give one with --out")
    yield _folder("token caches", cache / "apelr" / "tokens", "warning", "set data.token_cache_dir or XDG_CACHE_HOME")
    yield _folder("hub downloads", hub, "warning", "set HF_HOME to a folder that can be written")
    try:
        temporary = tempfile.gettempdir()
    except OSError as error:
        yield Finding("Folders", "temporary files", str(error), "problem", "set TMPDIR to a folder that can be written")
    else:
        yield _folder("temporary files", Path(temporary), "problem", "set TMPDIR to a folder that can be written")


def _folder(name: str, path: Path, wrong: State, fix: str) -> Finding:
    """A folder, or the nearest one above it where it is not there yet: is it written, and how much room is left?"""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() fails for a link to itself
    try:
        there = next(each for each in (path, *path.parents) if each.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"written")
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding("Folders", name, f"{path} cannot be written: {error.strerror or error}", wrong, fix)
    value = f"{path}, {free / 2**30:.1f} GiB free"
    if free < LITTLE:
        return Finding("Folders", name, value, "warning", f"make room, or {fix}")
    return Finding("Folders", name, value)


def text_findings() -> Iterator[Finding]:
    """Encodings, and what the terminal can show."""
    names = ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONUTF8", "PYTHONIOENCODING")
    told = ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
    preferred = locale.getpreferredencoding(False)
    value = f"{preferred}, file names {sys.getfilesystemencoding()} ({told or 'no variable is set'})"
    if preferred.lower().replace("-", "") == "utf8":
        yield Finding("Text", "encoding", value)
    else:
        yield Finding("Text", "encoding", value, "warning", "set PYTHONUTF8=1, or LANG to a UTF-8 locale as C.UTF-8")
    streams = (("input", sys.stdin), ("output", sys.stdout), ("errors", sys.stderr))
    shown = [name for name, stream in streams if stream is not None and is_terminal(stream)]
    yield Finding("Text", "terminal", f"{', '.join(shown) or 'none of input, output and errors'}{_size(bool(shown))}")
    yield Finding("Text", "colours", _colours())


def _size(is_shown: bool) -> str:
    size = shutil.get_terminal_size()
    return f", {size.columns} x {size.lines}" if is_shown else ""


def _colours() -> str:
    names = ("TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR")
    told = ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ) or "no variable is set"
    try:
        from rich.console import Console
    except ImportError:
        return f"unknown, rich is not installed ({told})"
    console = Console()
    system = None if console.no_color else console.color_system
    return f"{system or 'none'} ({told})"
