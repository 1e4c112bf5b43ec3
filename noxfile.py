"""Checks of the whole repository. `nox -l` lists them; CONTRIBUTING.md tells how to choose a part.

Each environment is a folder of `.nox`, made by `environment` from requirements.txt and the packages'
pyproject.toml files, and made anew only when one of those files changes.
"""

import argparse
import hashlib
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "harness", "transformers", "lint", "types", "docs", "browser"]
nox.options.default_venv_backend = "none"  # `environment` below makes them, so that sessions can share one

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements.txt"
REQUIRED: dict[str, list[str]] = {}  # the names that each package declares
for project_file in sorted(ROOT.glob("packages/*/pyproject.toml")):
    project = tomllib.loads(project_file.read_text(encoding="utf-8"))["project"]
    REQUIRED[project["name"]] = [re.match(r"[\w.-]+", line).group() for line in project["dependencies"]]
# One worker a core, and one thread a worker: threads that wait for a busy core slow torch down tenfold.
WORKERS = ["-n", "auto", "--dist", "worksteal"]
ASK_TORCH = "import torch; print('cuda' if torch.cuda.is_available() else f'torch {torch.__version__}')"


def with_siblings(*packages: str) -> list[str]:
    """The packages and those of this repository that they declare, each after what it needs."""
    needed = [[*with_siblings(*(n for n in REQUIRED[name] if n in REQUIRED)), name] for name in packages]
    return list(dict.fromkeys(name for names in needed for name in names))


PACKAGES = with_siblings(*REQUIRED)


def run_python(session: nox.Session, folder: Path, *arguments: str, silent: bool = False, **more: str) -> str:
    """Run Python in the environment at `folder`, hidden from any other that is active or on PYTHONPATH.

    Bytecode is kept in that folder, also where PYTHONDONTWRITEBYTECODE is set: tests start many processes, and without
    it each of them compiles torch's sources anew, 2.5 s of processor time to import torch and 6 s to train.
    """
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    path = os.pathsep.join([str(binaries), os.environ["PATH"]])
    variables = {"PATH": path, "VIRTUAL_ENV": str(folder), "PYTHONPATH": None, **more}
    variables |= {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    return str(session.run(str(binaries / "python"), *arguments, env=variables, external=True, silent=silent))


def environment(session: nox.Session, name: str, packages: list[str], *wanted: str) -> Path:
    """Return an environment that holds what is wanted, at the tested versions, and nothing else.

    Any change of its inputs makes it anew, so that a dependency declared no longer cannot linger. The pins
    of requirements.txt serve as constraints, less the editable lines, which pip refuses there, and with those
    behind `#:`, which only few environments need.
    """
    folder = ROOT / ".nox" / name
    stamp = folder / "made-from.sha256"
    files = [REQUIREMENTS, *(ROOT / "packages" / package / "pyproject.toml" for package in packages)]
    pins, *projects = [path.read_text(encoding="utf-8") for path in files]
    recipe = hashlib.sha256(repr((sys.version, wanted, pins, projects)).encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == recipe:
        return folder
    session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(re.sub(r"(?m)^-e .*$|^#: ", "", pins), encoding="utf-8")
    install = ["pip", "install", "--quiet", "--no-compile"]  # compiling all of torch costs 40 seconds
    run_python(session, folder, "-m", *install, "-c", str(constraints), *wanted)
    stamp.write_text(recipe, encoding="utf-8")
    return folder


def environment_together(session: nox.Session) -> Path:
    return environment(session, "together", PACKAGES, "-r", str(REQUIREMENTS))


def environment_alone(session: nox.Session, package: str, *more: str, name: str = "", extras: str = "test") -> Path:
    packages = with_siblings(package)
    editable = [part for each in packages for part in ("-e", f"packages/{each}")]
    return environment(session, name or package, packages, *editable[:-1], f"{editable[-1]}[{extras}]", *more)


def pytest(session: nox.Session, folder: Path, packages: list[str], *arguments: str, **more: str) -> None:
    run_python(session, folder, "-m", "pytest", *(f"packages/{name}/tests" for name in packages), *arguments, **more)


def pytest_on_cuda(session: nox.Session, folder: Path, packages: list[str], *arguments: str) -> None:
    """Run the tests of packages that use torch on CUDA; where there is none, say so and why."""
    packages = [package for package in packages if any("torch" in REQUIRED[n] for n in with_siblings(package))]
    if not packages:
        session.log("CUDA is skipped: nothing here uses torch")
        return
    answer = run_python(session, folder, "-c", ASK_TORCH, silent=True).splitlines()[-1]
    if answer == "cuda":
        pytest(session, folder, packages, "--device", "cuda", *arguments)
    elif any(argument.startswith("--device") for argument in session.posargs):
        session.error(f"CUDA was asked for, but {answer} finds no CUDA device")
    else:
        session.log(f"CUDA is skipped: {answer} finds no CUDA device")


@nox.session
@nox.parametrize("scope", [nox.param(name, id=name) for name in [*PACKAGES, "together"]])
def tests(session: nox.Session, scope: str) -> None:
    """Each package alone with what it declares, then all together; on CUDA too where there is one.

    After `--`: `--device cpu` or `--device cuda` chooses a device; the rest goes to pytest.
    """
    parser = argparse.ArgumentParser("nox -s tests --", allow_abbrev=False, add_help=False)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    chosen, arguments = parser.parse_known_args(session.posargs)
    if scope == "together":
        folder, packages = environment_together(session), PACKAGES
        names = ("repository", "wheels", "experiments", "experiment_tables", "benchmarks", "chaos")
        own = [f".ci/{name}_test.py" for name in names]
    else:
        folder, packages = environment_alone(session, scope), [scope]
        # What a declared dependency brings along can be imported undeclared: only reading the imports tells.
        own = [f".ci/repository_test.py::test_imports_are_declared[{part}-{scope}]" for part in ("src", "tests")]
    if chosen.device != "cuda":
        pytest(session, folder, packages, *own, *WORKERS, *arguments, OMP_NUM_THREADS="1")
    if chosen.device != "cpu":
        pytest_on_cuda(session, folder, packages, *arguments)


@nox.session
def harness(session: nox.Session) -> None:
    """The adapter to the lm-evaluation-harness, in an environment with the extra `lm-eval`; elsewhere it is skipped."""
    folder = environment_alone(session, "apelr-cli", name="harness", extras="lm-eval,test")
    arguments = [*session.posargs, "packages/apelr-cli/tests/harness"]
    pytest(session, folder, [], *arguments, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")


def environment_transformers(session: nox.Session) -> Path:
    """With the extras; accelerate is what Trainer and the harness's own model ask for."""
    others = ["accelerate", "markdown-it-py"]
    extras = "lm-eval,transformers,test"
    return environment_alone(session, "apelr-cli", *others, name="transformers", extras=extras)


@nox.session
def transformers(session: nox.Session) -> None:
    """Our models and tokenizers in transformers, and its models in ours, with the extra; elsewhere it is skipped.

    The pages about it run here too.
    """
    folder = environment_transformers(session)
    tests = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("packages/*/tests/hf"))]
    more = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    pytest(session, folder, [], *tests, "-n", "auto", "--dist", "worksteal", *session.posargs, **more)
    pytest(session, folder, [], "packages/apelr-model/tests/test_executor.py", "-k", "pretrained", **more)
    pytest(session, folder, [], ".ci/docs_test.py", "-k", "transformers.md or .hf.md", **more)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, and the rules of this repository: borders, declared dependencies, sizes."""
    folder = environment(session, "lint", [], "ruff", "pytest")
    run_python(session, folder, "-m", "ruff", "check")
    run_python(session, folder, "-m", "ruff", "format", "--check")
    pytest(session, folder, [], ".ci/repository_test.py")


@nox.session
def types(session: nox.Session) -> None:
    """Strict static types of the packages' sources, and of the examples."""
    sources = [*(f"packages/{name}/src" for name in PACKAGES), "packages/apelr-model/examples"]
    run_python(session, environment_together(session), "-m", "mypy", *session.posargs, *sources)


@nox.session
def docs(session: nox.Session) -> None:
    """Links, code blocks and commands of the Markdown pages, the API reference, and what helps contributors."""
    own = [f".ci/{name}_test.py" for name in ("docs", "transcript", "readme", "api", "contributing")]
    pytest(session, environment_together(session), [], *own, *WORKERS, *session.posargs, OMP_NUM_THREADS="1")


@nox.session
def browser(session: nox.Session) -> None:
    """Pages of runs, made here, in a real Chromium that is told to reach no network; without one it is skipped.

    Screenshots go to runs/browser. `APELR_BROWSER_RUN=FOLDER` shows a run of one's own in place of a tiny one.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        session.skip("there is no Chromium on this machine: apt-get install chromium, or the like")
    folder = environment(session, "browser", [], "playwright", "pytest")
    pages = ROOT / "runs" / "browser"
    run_python(session, environment_together(session), ".ci/browser/pages.py", str(pages), OMP_NUM_THREADS="1")
    seen = {"APELR_BROWSER_PAGES": str(pages), "APELR_CHROMIUM": chromium}
    run_python(session, folder, "-m", "pytest", ".ci/browser", *session.posargs, **seen)


@nox.session
def tutorial(session: nox.Session) -> None:
    """docs/tutorial.md as it stands, its training included, which takes some minutes."""
    folder = environment_transformers(session)
    more = {"APELR_LONG_PAGES": "1", "HF_HUB_OFFLINE": "1"}
    arguments = ["-s", "-k", "run_in_order and tutorial.md", *session.posargs]
    pytest(session, folder, [], ".ci/docs_test.py", *arguments, **more)


@nox.session
def experiments(session: nox.Session) -> None:
    """The tables of docs/experiments.md: after `--` the name of one; --help lists them."""
    run_python(session, environment_together(session), ".ci/experiments", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The tables of docs/benchmarks.md: all of them, or those of the groups named after `--`; --help lists them."""
    others = ["transformers", "dynamax", "jax[cpu]"]
    folder = environment(session, "bench", PACKAGES, "-r", str(REQUIREMENTS), *others)
    run_python(session, folder, ".ci/benchmarks", *(session.posargs or ["--docs"]))


@nox.session
def chaos(session: nox.Session) -> None:
    """The storms of docs/reliability.md: kills, disks that fail, hostile files; after `--` their names, or --help."""
    run_python(session, environment_together(session), ".ci/chaos", *session.posargs, OMP_NUM_THREADS="1")
