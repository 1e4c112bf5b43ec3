"""What helps contributors is whole: hooks name pinned tools and real folders, and the forms for issues are forms."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def hooks() -> dict[str, list[str]]:
    """The command of every hook, by its id."""
    found = {}
    for repo in read(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repo["repo"] == "local", "hooks of other repositories would need the network, and versions of their own"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            assert hook["name"]
            found[hook["id"]] = shlex.split(hook["entry"])
    return found


def test_hooks_call_pinned_tools_and_name_real_paths() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = {line.partition("==")[0] for line in requirements.splitlines() if re.match(r"[\w.-]+==", line)}
    for command in hooks().values():
        assert command[0] in pinned
        assert all((ROOT / word).exists() for word in command if "/" in word)


def test_hooks_check_the_types_of_what_nox_does() -> None:
    session = (ROOT / "noxfile.py").read_text(encoding="utf-8").partition("def types")[2].partition("@nox")[0]
    more = re.findall(r'"(packages/[\w./-]+)"', session)
    sources = [f"packages/{path.parent.name}/src" for path in ROOT.glob("packages/*/pyproject.toml")]
    assert sorted(hooks()["mypy"][1:]) == sorted([*sources, *more])


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_has_what_a_form_needs(form: Path) -> None:
    content = read(form)
    assert content.keys() == {"name", "description", "labels", "body"}
    ids = [part["id"] for part in content["body"]]
    assert len(set(ids)) == len(ids)
    for part in content["body"]:
        assert part["type"] == "textarea"
        assert part["attributes"]["label"]
    assert any(part.get("validations", {}).get("required") for part in content["body"])


def test_there_are_forms_for_bugs_features_and_questions() -> None:
    assert [form.stem for form in FORMS] == ["bug", "feature", "question"]


def test_the_page_on_libraries_names_modules_that_are_there() -> None:
    table = (ROOT / "docs" / "ecosystem.md").read_text(encoding="utf-8").partition("## Written by hand")[2]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    named = [name for cell in first_cells for name in re.findall(r"`([\w/.*]+)`", cell)]
    assert len(named) > 20
    for name in named:
        below = (f"packages/*/src/{part}{name}{end}" for part in ("", "*/") for end in ("", ".py"))
        places = [ROOT.glob(pattern) for pattern in (name, *below)]
        assert any(any(place) for place in places), name


def test_every_package_carries_the_licence_of_the_repository() -> None:
    licence = (ROOT / "LICENSE").read_bytes()
    copies = [path.parent / "LICENSE" for path in ROOT.glob("packages/*/pyproject.toml")]
    assert all(copy.read_bytes() == licence for copy in copies)
