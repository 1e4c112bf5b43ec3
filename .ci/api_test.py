"""docs/api has every public name once, as the sources have it, and an example that uses it.

That the examples run is tested with all blocks of all pages, in docs_test.py.
"""

import ast
import importlib
import re
import tomllib

import api_pages
import pytest
from docs_test import fences

each_package = pytest.mark.parametrize("package", api_pages.PACKAGES)


def page_of(package: str) -> str:
    return (api_pages.FOLDER / f"{package}.md").read_text(encoding="utf-8")


def test_every_package_has_a_page() -> None:
    folders = {path.parent.name.replace("-", "_") for path in api_pages.ROOT.glob("packages/*/pyproject.toml")}
    assert folders <= set(api_pages.PACKAGES)


@each_package
def test_entries_are_as_the_sources_make_them(package: str) -> None:
    page = page_of(package)
    assert api_pages.filled(page, package) == page, "run: python .ci/api_pages.py"


@each_package
def test_every_public_name_has_one_entry(package: str) -> None:
    names = [name for names in api_pages.listed(page_of(package)) for name in names.split()]
    assert sorted(names) == sorted(api_pages.public_names(package))


def test_the_command_has_no_public_names() -> None:
    assert importlib.import_module("apelr_cli").__all__ == []


@each_package
def test_every_public_name_is_used_by_the_example_of_its_section(package: str) -> None:
    for section in re.split(r"(?m)^## ", page_of(package))[1:]:
        names = {name for names in api_pages.listed(section) for name in names.split()}
        used = set()
        for block in re.findall(r"(?ms)^```python\n(.*?)^```", section):
            tree = ast.parse(block)
            used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert names <= used, section.partition("\n")[0]


@each_package
def test_every_entry_says_something(package: str) -> None:
    for heading, text in re.findall(r"(?ms)^### (`\w+`)\n(.*?)(?=^### |^<!-- end)", page_of(package)):
        assert re.sub(r"(?ms)^```text\n.*?^```", "", text).strip(), heading


def test_the_examples_are_blocks_that_the_pages_tests_run() -> None:
    for package in api_pages.PACKAGES:
        languages = {tuple(words) for _, words, _ in fences(api_pages.FOLDER / f"{package}.md")}
        assert languages <= {("python",), ("text",), ("console", "run")}


def test_the_packages_share_one_version_that_the_changelog_names() -> None:
    projects = [
        tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for path in sorted(api_pages.ROOT.glob("packages/*/pyproject.toml"))
    ]
    (version,) = {project["version"] for project in projects}
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    major, minor, _ = version.split(".")
    for project in projects:
        for requirement in project["dependencies"]:
            if requirement.startswith("apelr-"):
                assert re.sub(r"^[\w-]+(\[[\w,-]+\])?", "", requirement) == f"~={major}.{minor}.0"
    sections = re.findall(r"(?m)^## \[([^\]]+)\]", (api_pages.ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert sections[0] in ("Unreleased", version)
    assert version in sections or "Unreleased" in sections
