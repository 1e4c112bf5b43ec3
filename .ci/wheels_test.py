"""Each package builds as a wheel that is complete without the repository, and as an sdist that builds that wheel.

The wheels install together by name from an index, and the command that they install trains and samples.
"""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import venv
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
    """Build every package in one go, past the cache: pip 23 keeps stale wheels of folders with a hyphen.

    With the hatchling that is here, as an environment for each would cost seconds; installing them editable makes some.
    """
    target, options = tmp_path_factory.mktemp("wheels"), ["--no-deps", "--no-cache-dir", "--no-build-isolation"]
    python("-m", "pip", "wheel", *options, "-w", target, *PACKAGES, cwd=ROOT)
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


@pytest.fixture(scope="module")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build every package's sdist."""
    target = tmp_path_factory.mktemp("sdists")
    for package in PACKAGES:
        python("-m", "hatchling", "build", "-t", "sdist", "-d", target, cwd=package)
    return {path.name.partition("-")[0]: path for path in target.glob("*.tar.gz")}


@each_package
def test_sdist_holds_what_a_wheel_is_built_from(sdists: dict[str, Path], package: Path) -> None:
    wanted = {path for path in tracked(package) if not path.startswith(".")}
    with tarfile.open(sdists[package.name.replace("-", "_")]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted <= held


def tracked(package: Path) -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=package, capture_output=True, encoding="utf-8", check=True)
    return listed.stdout.splitlines()


def test_sdist_of_the_command_builds_the_same_wheel(
    wheels: dict[str, Path], sdists: dict[str, Path], tmp_path: Path
) -> None:
    with tarfile.open(sdists["apelr_cli"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=folder)
    (wheel,) = tmp_path.glob("*.whl")
    assert members(wheel) == members(wheels["apelr_cli"])


@each_package
def test_wheel_carries_licence_and_description(wheels: dict[str, Path], package: Path) -> None:
    held = members(wheels[package.name.replace("-", "_")])
    (licence,) = (data for name, data in held.items() if name.endswith(".dist-info/licenses/LICENSE"))
    assert licence == (ROOT / "LICENSE").read_bytes()
    (metadata,) = (email.message_from_bytes(data) for name, data in held.items() if name.endswith("info/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Summary"].startswith("APEL-R: ")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True) == (package / "README.md").read_bytes()


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment in which `apelr-cli` was installed by its name from an index that holds the four wheels.

    Other distributions are those of this environment, linked one by one; of APEL-R's it sees nothing.
    """
    top = tmp_path_factory.mktemp("installed")
    for name, wheel in wheels.items():
        project = top / "simple" / name.replace("_", "-")
        project.mkdir(parents=True)
        shutil.copy(wheel, project)
        (project / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>', encoding="utf-8")
    others = top / "others"
    others.mkdir()
    for folder in map(Path, sys.path):
        for path in folder.iterdir() if folder.name == "site-packages" else ():
            if "apelr" not in path.name and path.suffix != ".pth" and not (others / path.name).exists():
                (others / path.name).symlink_to(path)
    venv.create(top / "environment", with_pip=False)
    (site,) = (top / "environment").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"{others}\n", encoding="utf-8")
    index = (top / "simple").as_uri()
    python("-m", "pip", "--python", top / "environment", "install", "-q", "--index-url", index, "apelr-cli", cwd=top)
    return top / "environment"


needs_links = pytest.mark.skipif(os.name == "nt", reason="links of files need a privilege on Windows")


@needs_links
def test_the_four_wheels_install_together_by_name(installed: Path, wheels: dict[str, Path]) -> None:
    (site,) = installed.glob("lib/python*/site-packages")
    assert {path.name.partition("-")[0] for path in site.glob("*.dist-info")} == set(wheels)
    ask = "import apelr_cli, apelr_data, apelr_model, apelr_tokenizers as t; print(apelr_model.__file__, t.__file__)"
    places = run(installed, "python", "-I", "-c", ask).split()
    assert all(place.startswith(str(site)) for place in places)


@needs_links
def test_the_installed_command_trains_and_samples(installed: Path, tmp_path: Path) -> None:
    assert "train" in run(installed, "apelr", "--help")
    small = ["data.max_train_examples=20", "data.max_val_examples=5", "tokenizer.vocab_size=300", "train.max_steps=2"]
    small += ["model.hidden_dim=16", "model.token_dim=16", "model.fusion_dim=16", "train.seq_len=32"]
    sets = [part for each in small for part in ("--set", each)]
    run(installed, "apelr", "train", "--config", "quickstart", *sets, "--out", str(tmp_path / "run"))
    made = run(installed, "apelr", "sample", "--checkpoint", str(tmp_path / "run"), "--prompt", "Once", "--seed", "1")
    assert made.startswith("Once")
    print_config = run(installed, "apelr", "config", "quickstart")
    assert print_config.strip() == CONFIGS["quickstart.yaml"].decode().strip()


def run(environment: Path, program: str, *arguments: str) -> str:
    """What a program of an environment prints, out of reach of this one's variables."""
    path = os.pathsep.join([str(environment / "bin"), os.environ["PATH"]])
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = [environment / "bin" / program, *arguments]
    done = subprocess.run(
        command, env={**variables, "PATH": path}, cwd=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
