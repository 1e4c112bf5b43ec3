"""Versions of what is installed, without importing it."""

import platform
from importlib import metadata

__all__ = ["PACKAGES", "installed_version", "version_text"]

PACKAGES = ("apelr-tokenizers", "apelr-data", "apelr-model", "apelr-cli")
"""The packages of APEL-R, each after what it needs."""


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def version_text() -> str:
    """What `apelr --version` says: the command's version on a line of its own, then what it runs on."""
    names = (*(name for name in PACKAGES if name != "apelr-cli"), "torch")
    rest = [f"{name} {installed_version(name) or 'not installed'}" for name in names]
    own = installed_version("apelr-cli") or "unknown (not installed)"
    return f"apelr, version {own}\n{', '.join(rest)}, Python {platform.python_version()}"
