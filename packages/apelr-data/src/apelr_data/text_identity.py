"""What decides the text of a corpus, as plain values that can be kept and compared."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from apelr_data.config import DataConfig
from apelr_data.errors import DataError
from apelr_data.sources.files import find_files

WITHOUT_EFFECT = ("token_cache", "token_cache_dir", "reuse_token_cache", "document_mask", "cache_dir")
"""Settings that change where things are kept or how rows are read, but no text."""


def text_settings(config: DataConfig, seed: int) -> dict[str, Any]:
    """The settings that decide the text; those that are null, and a seed that picks nothing, are left out."""
    settings: dict[str, Any] = _without_null(asdict(config))
    if "storyworld" in _sources(settings):
        settings["seed"] = seed
    return settings


def text_state(config: DataConfig) -> dict[str, Any]:
    """What the same settings may find changed: files by size and time of change, the Python whose text is read.

    Raises DataError when a file cannot be looked up.
    """
    settings = asdict(config)
    state: dict[str, Any] = {"files": dict(_files(settings))}
    if "python_docs" in _sources(settings):
        state["python"] = platform.python_version()
    return state


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_null(each) for key, each in value.items() if each is not None and key not in WITHOUT_EFFECT
        }
    return [_without_null(each) for each in value] if isinstance(value, list | tuple) else value


def _sections(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings, and those of each source that they mix."""
    yield settings
    for value in settings.values():
        for each in value if isinstance(value, list | tuple) else ():
            if isinstance(each, Mapping):
                yield from _sections(each)


def _sources(settings: Mapping[str, Any]) -> set[str]:
    return {str(section.get("source")) for section in _sections(settings)}


def _files(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each of the user's own files with its size and its time of change."""
    for section in _sections(settings):
        if section.get("source") != "text":
            continue
        for key in ("path", "val_path"):
            for file in find_files(f"data.{key}", section[key]) if section.get(key) else ():
                try:
                    status = file.stat()
                except OSError as error:
                    raise DataError(f"data.{key}: cannot look up {str(file)!r}: {error.strerror or error}") from error
                yield str(file), f"{status.st_size} bytes, changed at {status.st_mtime_ns} ns"
