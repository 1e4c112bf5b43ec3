"""Small JSON files that carry a checksum of their content, and the differences between two contents."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apelr_data.token_file import damaged

LARGEST_FILE = 1 << 26
"""Bytes; many times what a cache of a thousand shards needs."""
MOST_SHOWN = 5
"""Differences that a message names."""
LONGEST_VALUE = 60
"""Characters of a value that a message shows."""


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of JSON content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write content and its checksum to a new file, down to the disk. Raises OSError."""
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps({**content, "sha256": checksum(content)}, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None where there is no such file or folder. Raises DataError where it is damaged."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
            raise damaged(path, f"it is not a regular file of at most {LARGEST_FILE} bytes")
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "it is not JSON") from error
    if not isinstance(content, dict) or content.pop("sha256", None) != checksum(content):
        raise damaged(path, "its content is not what was written")
    return content


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line `dotted.key: old -> new` for every value that differs."""
    before, after = _flat(old, ""), _flat(new, "")
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in before | after
        if key not in before or key not in after or before[key] != after[key]
    ]


def in_words(changed: list[str]) -> str:
    """The first differences on one line, and how many more there are."""
    more = len(changed) - MOST_SHOWN
    return "; ".join(changed[:MOST_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "not set"
    text = json.dumps(values[key])
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
