"""Rules of the repository: borders between packages, declared and pinned dependencies, sizes, top level."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = {
    path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
}
SIBLINGS_ALLOWED = {
    "apelr-tokenizers": set(),
    "apelr-data": {"apelr-tokenizers"},
    "apelr-model": set(),
    "apelr-cli": {"apelr-tokenizers", "apelr-data", "apelr-model"},
}
FACES = {"apelr_tokenizers.hf", "apelr_model.hf"}
"""Public subpackages, which need an extra: each has an `__all__`, and nothing else of its package imports it."""
# Where names differ in more than hyphens.
DISTRIBUTION_OF_IMPORT = {"sklearn": "scikit-learn", "yaml": "pyyaml", "tensorboardX": "tensorboardx"}
TOP_LEVEL = {
    *("pyproject.toml", "noxfile.py", "README.md", "packages", "configs", "docs", "runs"),
    *("requirements.txt", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".ci", ".github"),
}
LONGEST_FILE = 250
LONGEST_FUNCTION = 60

each_package = pytest.mark.parametrize("package", PROJECTS)
each_source = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name) for path in sorted(ROOT.glob("packages/*/src/**/*.py"))]
)


def module_of(package: str) -> str:
    return package.replace("-", "_")


def requirement_name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def declared(package: str, *, with_tests: bool) -> set[str]:
    """What a package needs, and what its extras do; `test` is an extra of the tests alone."""
    project = PROJECTS[package]
    extras = [needs for extra, needs in project["optional-dependencies"].items() if with_tests or extra != "test"]
    return {requirement_name(requirement) for requirement in [*project["dependencies"], *chain(*extras)]}


def python_files(package: str, folder: str) -> list[Path]:
    return sorted((ROOT / "packages" / package / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the line, module and imported names (none for `import module`) of every absolute import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)


def third_party(package: str, folder: str) -> dict[str, str]:
    """Map each distribution that the folder imports, siblings among them, to one place that imports it."""
    found = {}
    for path in python_files(package, folder):
        for line, module, _ in imports(path):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top != module_of(package):
                name = DISTRIBUTION_OF_IMPORT.get(top, top.replace("_", "-"))
                found[name] = f"{path.relative_to(ROOT)}:{line} imports {module}"
    return found


def public_names(module: str) -> set[str]:
    """Read `__all__` from the `__init__.py` of a package or of a public subpackage."""
    package = module.partition(".")[0].replace("_", "-")
    path = ROOT / "packages" / package / "src" / module.replace(".", "/") / "__init__.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    return set()


@each_package
def test_folder_and_distribution_share_a_name_and_siblings_are_the_allowed_ones(package: str) -> None:
    assert PROJECTS[package]["name"] == package
    assert declared(package, with_tests=True) & PROJECTS.keys() == SIBLINGS_ALLOWED[package]


@each_package
@pytest.mark.parametrize("folder", ["src", "tests"])
def test_imports_are_declared(package: str, folder: str) -> None:
    allowed = declared(package, with_tests=folder == "tests")
    assert not [place for name, place in third_party(package, folder).items() if name not in allowed]


@each_package
def test_declared_dependencies_are_imported(package: str) -> None:
    in_sources, in_tests = third_party(package, "src").keys(), third_party(package, "tests").keys()
    assert declared(package, with_tests=False) <= in_sources
    assert declared(package, with_tests=True) - {"pytest", "pytest-xdist"} <= in_sources | in_tests


@each_package
def test_siblings_are_imported_by_their_public_names_only(package: str) -> None:
    siblings = {module_of(name) for name in PROJECTS if name != package}
    faces = siblings | FACES
    wrong = []
    for path in python_files(package, "src") + python_files(package, "tests"):
        for line, module, names in imports(path):
            is_sibling = module.partition(".")[0] in siblings
            if is_sibling and (module not in faces or not names or not set(names) <= public_names(module)):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module} {names}")
    assert not wrong, "write `from <package> import <names of its __all__>`, or from one of its public subpackages"


@pytest.mark.parametrize("face", sorted(FACES))
def test_public_subpackages_stand_apart(face: str) -> None:
    """They have names to offer; the rest of the package needs neither them nor the library that they are for."""
    assert public_names(face)
    package, _, folder = face.partition(".")
    source = ROOT / "packages" / package.replace("_", "-") / "src" / package
    outside = [path for path in source.rglob("*.py") if not path.is_relative_to(source / folder)]
    found = [(path.name, line, module) for path in outside for line, module, _ in imports(path)]
    assert not [place for place in found if place[2].startswith((face, "transformers"))]


@each_source
def test_source_files_and_their_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    long_functions = [
        f"{node.name} from line {node.lineno}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long_functions, f"longer than {LONGEST_FUNCTION} lines"
    assert len(text.splitlines()) <= LONGEST_FILE


def test_versions_are_pinned_in_requirements_txt_and_nowhere_else() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line.removeprefix("#: ") for line in lines if line and not line.startswith("# ")]
    folders = [line for line in lines if line.startswith("-e ")]
    pins = [line for line in lines if line not in folders]
    assert sorted(folders) == [f"-e packages/{name}" for name in PROJECTS]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    wanted = set().union(*(declared(package, with_tests=True) for package in PROJECTS)) - PROJECTS.keys()
    assert wanted <= {requirement_name(pin) for pin in pins}
    assert "==" not in str(list(PROJECTS.values()))


def test_top_level_holds_only_what_the_layout_names() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    entries = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    dotfiles = {entry for entry in entries if entry.startswith(".") and f"\n{entry}/" not in listed.stdout}
    assert entries - TOP_LEVEL - dotfiles == set()


def test_the_folders_of_programs_have_no_two_files_of_one_name():
    """Their tests put each folder on the path of one and the same process."""
    names = [path.name for path in (ROOT / ".ci").glob("*/*.py") if path.name != "__main__.py"]
    assert sorted(set(names)) == sorted(names)
