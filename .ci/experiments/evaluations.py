"""`apelr eval` of runs, kept in their folders as long as checkpoint and sources stay the same."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import apelr_cli
import apelr_data
import apelr_model
import apelr_tokenizers
from apelr_cli.run_folder import RunFolder


def apelr(arguments: Sequence[str]) -> str:
    """What a command writes to standard output; its one line of error ends the program."""
    command = [sys.executable, "-m", "apelr_cli", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(f"failed: apelr {' '.join(arguments)}")
    return done.stdout


def evaluation(folder: Path, *options: str) -> dict[str, Any]:
    """The object of `apelr eval`; kept beside the checkpoint as long as that and the packages' sources are the same."""
    kept, now = RunFolder(folder).read_json(evaluation_name(options)), made_with(folder)
    if kept.get("made_with") != now:
        text = apelr(["eval", f"--checkpoint={folder}", *options, "--format=json"])
        kept = {"made_with": now, "found": json.loads(text)}
        RunFolder(folder).write_json(evaluation_name(options), kept)
    found: dict[str, Any] = kept["found"]
    return found


def evaluation_name(options: Sequence[str]) -> str:
    """The file of a run that keeps an evaluation with these options."""
    return f"eval{'-'.join(options)}.json"


def made_with(folder: Path) -> dict[str, Any]:
    """What an evaluation of a run depends on, apart from its options."""
    return {"checkpoint": RunFolder(folder).checkpoint.stat().st_mtime_ns, "sources": _sources()}


@cache
def _sources() -> str:
    """SHA-256 of the packages' sources."""
    found = hashlib.sha256()
    for package in (apelr_cli, apelr_data, apelr_model, apelr_tokenizers):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()
