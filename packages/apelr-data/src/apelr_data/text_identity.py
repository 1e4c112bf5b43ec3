"""What decides the text of a corpus, as plain values that can be kept and compared."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from apelr_data.config import DataConfig, SourceConfig
from apelr_data.errors import DataError
from apelr_data.sources.files import find_files, full_path

WITHOUT_EFFECT = (
    "token_cache",
    "token_cache_dir",
    "reuse_token_cache",
    "order",
    "lane_rows",
    "document_mask",
    "cache_dir",
)
"""Settings that change where things are kept or how rows are read, but no text."""
LONGEST_NAME = 40
"""Characters of a name made of the sources' names."""


def text_name(config: DataConfig) -> str:
    """The sources' names as part of a file name."""
    return "+".join(part.source for part in config.parts())[:LONGEST_NAME]


def text_settings(config: DataConfig, seed: int) -> dict[str, Any]:
    """The settings that decide the text; those that are null, and a seed that picks nothing, are left out."""
    unused = [field.name for field in fields(SourceConfig)] if config.sources else ["sources"]
    values = asdict(config) | _full_paths(config)
    values["sources"] = [asdict(each) | _full_paths(each) for each in config.sources]
    settings: dict[str, Any] = _plain({key: each for key, each in values.items() if key not in unused})
    if any(part.source in ("storyworld", "planted") for part in config.parts()):
        settings["seed"] = seed
    return settings


def text_state(config: DataConfig) -> dict[str, Any]:
    """What may be other under the same settings: files by size and time of change, the Python whose text is read.

    The hub is not asked: there `data.revision` says which state is meant. Raises DataError when a file cannot be
    looked up.
    """
    state: dict[str, Any] = {"files": {}}
    for number, part in enumerate(config.parts()):
        section = f"data.sources[{number}]" if config.sources else "data"
        for file, name in _files(section, part):
            try:
                status = file.stat()
            except OSError as error:
                raise DataError(f"{section}: cannot look up {str(file)!r}: {error.strerror or error}") from error
            target = file.resolve()
            link = "" if target == name else f", a link to {target}"
            state["files"][str(name)] = f"{status.st_size} bytes, changed at {status.st_mtime_ns} ns{link}"
        if part.source == "python_docs":
            state["python"] = platform.python_version()
    return state


def _plain(value: Any) -> Any:
    """The value as JSON knows it, without what is null or has no effect."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None and key not in WITHOUT_EFFECT}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _full_paths(part: SourceConfig) -> dict[str, str]:
    """The user's own paths of one source in full, for a relative one means other text in another working folder."""
    if part.source == "text":
        wanted = {"path": part.path, "val_path": part.val_path}
        return {key: str(full_path(path)) for key, path in wanted.items() if path}
    if part.source == "hf" and part.path and Path(part.path).expanduser().is_dir():
        return {"path": str(full_path(part.path))}
    return {}


def _files(section: str, part: DataConfig) -> Iterator[tuple[Path, Path]]:
    """The user's own files of one source, each with its full name."""
    if part.source == "text":
        for key, wanted in (("path", part.path), ("val_path", part.val_path)):
            for file in find_files(f"{section}.{key}", wanted) if wanted else ():
                yield file, full_path(wanted or "", file)
    elif part.source == "hf" and part.path:
        folder = full_path(part.path)
        yield from ((file, file) for file in sorted(folder.rglob("*")) if file.is_file())
