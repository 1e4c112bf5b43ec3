"""Checks of the whole repository. `nox -l` lists them; CONTRIBUTING.md tells how to choose a part.

Each environment is a folder of `.nox`, made by `environment` from requirements.txt and the packages'
pyproject.toml files, and made anew only when one of those files changes.
"""

import hashlib
import os
import re
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.default_venv_backend = "none"  # `environment` below makes them, so that sessions can share one

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements.txt"
PROJECT_FILES = {path.parent.name: path for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
PROJECTS = {name: tomllib.loads(path.read_text(encoding="utf-8"))["project"] for name, path in PROJECT_FILES.items()}
ASK_TORCH = "import torch; print('cuda' if torch.cuda.is_available() else f'torch {torch.__version__}')"


def requirement_names(package: str) -> list[str]:
    return [re.match(r"[\w.-]+", line).group() for line in PROJECTS[package]["dependencies"]]


def with_siblings(package: str) -> list[str]:
    """The package and those of this repository that it declares, each after what it needs."""
    siblings = [name for name in requirement_names(package) if name in PROJECTS]
    return list(dict.fromkeys([*(n for sibling in siblings for n in with_siblings(sibling)), package]))


def uses_torch(package: str) -> bool:
    return any("torch" in requirement_names(name) for name in with_siblings(package))


PACKAGES = list(dict.fromkeys(name for package in PROJECTS for name in with_siblings(package)))


def run_python(session: nox.Session, folder: Path, *arguments: str, silent: bool = False) -> str:
    """Run Python in the environment at `folder`, hidden from any other that is active or on PYTHONPATH."""
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    variables = {
        "PATH": os.pathsep.join([str(binaries), os.environ["PATH"]]),
        "VIRTUAL_ENV": str(folder),
        "PYTHONPATH": None,
    }
    python = str(binaries / "python")
    return str(session.run(python, *arguments, env=variables, external=True, silent=silent))


def environment(session: nox.Session, name: str, *wanted: str) -> Path:
    """Return an environment that holds what is wanted, at the tested versions, and nothing else.

    Any change of its inputs makes it anew, so that a dependency declared no longer cannot linger. The pins
    of requirements.txt serve as constraints, less the editable lines, which pip refuses there.
    """
    folder = ROOT / ".nox" / name
    stamp = folder / "made-from.sha256"
    files = [REQUIREMENTS, *PROJECT_FILES.values()]
    inputs = repr((sys.version, wanted, [path.read_text(encoding="utf-8") for path in files]))
    recipe = hashlib.sha256(inputs.encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == recipe:
        return folder
    session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True)
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line for line in lines if not line.startswith("-e")), encoding="utf-8")
    install = ["pip", "install", "--quiet", "--no-compile"]  # compiling all of torch costs 40 seconds
    run_python(session, folder, "-m", *install, "-c", str(constraints), *wanted)
    stamp.write_text(recipe, encoding="utf-8")
    return folder


def environment_together(session: nox.Session) -> Path:
    return environment(session, "together", "-r", str(REQUIREMENTS))


def pytest(session: nox.Session, folder: Path, packages: list[str], *arguments: str) -> None:
    tests_folders = [f"packages/{name}/tests" for name in packages]
    run_python(session, folder, "-m", "pytest", *tests_folders, *arguments)


def pytest_on_cuda(session: nox.Session, folder: Path, packages: list[str], *arguments: str) -> None:
    """Run the tests on CUDA; where there is none, say so and why."""
    if not packages:
        session.log("CUDA is skipped: nothing here uses torch")
        return
    answer = run_python(session, folder, "-c", ASK_TORCH, silent=True).splitlines()[-1]
    if answer == "cuda":
        pytest(session, folder, packages, "--device", "cuda", *arguments)
    elif "--device" in session.posargs:
        session.error(f"CUDA was asked for, but {answer} finds no CUDA device")
    else:
        session.log(f"CUDA is skipped: {answer} finds no CUDA device")


@nox.session
@nox.parametrize("scope", [nox.param(name, id=name) for name in [*PACKAGES, "together"]])
def tests(session: nox.Session, scope: str) -> None:
    """Each package alone with what it declares, then all together; on CUDA too where there is one.

    After `--`: `--device cpu` or `--device cuda` chooses a device; the rest goes to pytest.
    """
    devices, arguments = ["cpu", "cuda"], list(session.posargs)
    if "--device" in arguments:
        at = arguments.index("--device")
        devices, arguments = [arguments[at + 1]], arguments[:at] + arguments[at + 2 :]
    if scope == "together":
        folder, packages = environment_together(session), PACKAGES
        own = [".ci/repository_test.py", ".ci/wheels_test.py"]
    else:
        editable = [part for name in with_siblings(scope) for part in ("-e", f"packages/{name}")]
        folder, packages = environment(session, scope, *editable[:-1], f"{editable[-1]}[test]"), [scope]
        own = []
    if "cpu" in devices:
        pytest(session, folder, packages, *own, *arguments)
    if "cuda" in devices:
        pytest_on_cuda(session, folder, [name for name in packages if uses_torch(name)], *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, and the rules of this repository: borders, declared dependencies, sizes."""
    folder = environment(session, "lint", "ruff", "pytest")
    run_python(session, folder, "-m", "ruff", "check")
    run_python(session, folder, "-m", "ruff", "format", "--check")
    pytest(session, folder, [], ".ci/repository_test.py")


@nox.session
def types(session: nox.Session) -> None:
    """Strict static types of the packages' sources."""
    sources = [f"packages/{name}/src" for name in PACKAGES]
    run_python(session, environment_together(session), "-m", "mypy", *session.posargs, *sources)


@nox.session
def docs(session: nox.Session) -> None:
    """Links, code blocks and commands of the Markdown pages."""
    pytest(session, environment_together(session), [], ".ci/docs_test.py", *session.posargs)
