"""Each package builds as a wheel that is complete without the repository; so does apelr-cli's sdist."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
SUFFIXES = {".py", ".typed", ".html", ".css", ".js"}
"""Of files that a package needs, the pages' templates among them."""
CONFIGS = {path.name: path.read_bytes() for path in ROOT.glob("configs/*.yaml")}

each_package = pytest.mark.parametrize("package", [pytest.param(path, id=path.name) for path in PACKAGES])


def python(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build every package in one go, past the cache: pip 23 keeps stale wheels of folders with a hyphen."""
    target = tmp_path_factory.mktemp("wheels")
    python("-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "-w", target, *PACKAGES, cwd=ROOT)
    return {path.name.partition("-")[0]: path for path in target.glob("*.whl")}


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@each_package
def test_wheel_holds_the_sources_and_the_type_marker(wheels: dict[str, Path], package: Path) -> None:
    module = package.name.replace("-", "_")
    sources = [path for path in (package / "src" / module).rglob("*") if path.suffix in SUFFIXES]
    expected = {path.relative_to(package / "src").as_posix(): path.read_bytes() for path in sources}
    assert f"{module}/py.typed" in expected
    held = members(wheels[module])
    assert expected.items() <= held.items()
    assert not [name for name in held if not name.startswith((f"{module}/", f"{module}-"))]


@each_package
def test_wheel_names_no_place_of_the_machine_that_built_it(wheels: dict[str, Path], package: Path) -> None:
    held = members(wheels[package.name.replace("-", "_")])
    (metadata,) = (content for name, content in held.items() if name.endswith(".dist-info/METADATA"))
    assert b"file:" not in metadata
    assert str(ROOT).encode() not in metadata


def configs_of(wheel: Path) -> dict[str, bytes]:
    prefix = "apelr_cli/configs/"
    return {name[len(prefix) :]: data for name, data in members(wheel).items() if name.startswith(prefix)}


def test_wheel_of_the_command_carries_the_shipped_configs(wheels: dict[str, Path]) -> None:
    assert CONFIGS
    assert configs_of(wheels["apelr_cli"]) == CONFIGS


def test_sdist_of_the_command_builds_the_same_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    python("-m", "build", "--outdir", tmp_path, ROOT / "packages" / "apelr-cli", cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert list(tmp_path.glob("*.tar.gz"))
    assert members(wheel) == members(wheels["apelr_cli"])


def test_command_prints_a_config_from_the_wheel_alone(wheels: dict[str, Path], tmp_path: Path) -> None:
    python("-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path, *wheels.values(), cwd=tmp_path)
    ask = "import sys; sys.path.insert(0, '.'); from apelr_cli.main import main; main()"
    printed = python("-I", "-c", ask, "config", "quickstart", cwd=tmp_path)
    assert printed.strip() == CONFIGS["quickstart.yaml"].decode().strip()
