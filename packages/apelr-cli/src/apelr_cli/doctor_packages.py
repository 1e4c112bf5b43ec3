"""What is installed: Python, the four packages, what they declare and whether it is satisfied, and their extras."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from apelr_cli.doctor_findings import Finding
from apelr_cli.versions import PACKAGES, installed_version

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["package_findings", "python_findings"]

OLDEST_PYTHON = (3, 11)


def python_findings() -> Iterator[Finding]:
    """Which Python runs this, and on what."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding("Python", "version", name)
    else:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("Python", "version", name, "problem", f"install Python {wanted} or newer")
    yield Finding("Python", "executable", sys.executable or "unknown")
    yield Finding("Python", "environment", "virtual" if sys.prefix != sys.base_prefix else "the system's")
    yield Finding("Python", "platform", platform.platform())


def package_findings() -> Iterator[Finding]:
    """The packages, each dependency with its declared range, and the extras."""
    versions = {name: installed_version(name) for name in PACKAGES}
    ours = versions["apelr-cli"]
    for name, version in versions.items():
        if version is None:
            yield Finding("Packages", name, "not installed", "problem", f"python -m pip install {name}")
        elif version != ours and ours is not None:
            fix = f'python -m pip install "{name}=={ours}"'
            yield Finding("Packages", name, f"{version}, beside apelr-cli {ours}", "problem", fix)
        else:
            yield Finding("Packages", name, version)
    if installed_version("packaging") is None:
        fix = "python -m pip install packaging"
        yield Finding("Dependencies", "packaging", "not installed: ranges cannot be checked", "problem", fix)
        return
    yield from _dependency_findings()


def _dependency_findings() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    ranges: dict[str, dict[str, Requirement]] = {}
    extras: dict[tuple[str, str], list[Requirement]] = {}
    for package in PACKAGES:
        if installed_version(package) is None:
            continue
        about = metadata.distribution(package)
        for text in about.requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                ranges.setdefault(need.name, {})[package] = need
                continue
            for extra in about.metadata.get_all("Provides-Extra") or ():
                if extra != "test" and need.marker.evaluate({"extra": extra}):
                    extras.setdefault((package, extra), []).append(need)
    for name, by_package in sorted(ranges.items()):
        if name not in PACKAGES:
            yield _dependency(name, by_package)
    for (package, extra), needs in sorted(extras.items()):
        yield _extra(package, extra, needs)


def _dependency(name: str, by_package: "dict[str, Requirement]") -> Finding:
    """One dependency, and the ranges that packages declare for it."""
    declared = ", ".join(f"{need.specifier or 'any'} for {package}" for package, need in by_package.items())
    found = installed_version(name)
    wanted = ",".join(sorted({str(need.specifier) for need in by_package.values() if need.specifier}))
    fix = f'python -m pip install "{name}{wanted}"'
    if found is None:
        return Finding("Dependencies", name, f"not installed ({declared})", "problem", fix)
    if not all(need.specifier.contains(found, prereleases=True) for need in by_package.values()):
        return Finding("Dependencies", name, f"{found} is not in the range ({declared})", "problem", fix)
    return Finding("Dependencies", name, f"{found} ({declared})")


def _extra(package: str, extra: str, needs: "list[Requirement]") -> Finding:
    """One extra: nobody needs it to be there, but what is there of it should fit."""
    name, command = f"{package}[{extra}]", f'python -m pip install "{package}[{extra}]"'
    found = {need.name: installed_version(need.name) for need in needs}
    wrong = [
        f"{need.name} {found[need.name]} is not {need.specifier}"
        for need in needs
        if (version := found[need.name]) is not None and not need.specifier.contains(version, prereleases=True)
    ]
    missing = [each for each, version in found.items() if version is None]
    if missing:
        return Finding("Extras", name, f"not installed ({', '.join(missing)}); {command}")
    if wrong:
        return Finding("Extras", name, ", ".join(wrong), "warning", command)
    return Finding("Extras", name, "installed: " + ", ".join(f"{each} {version}" for each, version in found.items()))
