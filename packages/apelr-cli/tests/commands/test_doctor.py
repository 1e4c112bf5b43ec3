"""`apelr doctor`: a healthy machine, and one fault at a time."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from apelr_cli import doctor_machine, doctor_packages, doctor_surroundings
from apelr_cli.doctor_findings import Finding, doctor_lines, doctor_report
from apelr_cli.versions import PACKAGES

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def quiet_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine that tests run on, and an empty folder."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HOME", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def report(result: Result) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(result.stdout)["findings"]}


def test_a_healthy_machine_is_told_about_and_exit_code_is_0(apelr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_surroundings.urllib.request, "urlopen", None)  # nothing is asked without --network
    result = apelr("doctor", "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ok"] is True
    found = report(result)
    assert set(PACKAGES) | {"click", "torch", "pyyaml", "apelr-cli[lm-eval]"} <= found.keys()
    assert "(>=8.1 for apelr-cli)" in found["click"]["value"]
    assert found["answers"]["value"] == "not asked (--network asks)"
    assert found["devices"]["value"].endswith(("takes cpu", "takes cuda", "takes mps"))
    page = apelr("doctor")
    assert page.exit_code == 0
    assert page.stdout.endswith("\nAll is well for use on the CPU.\n")
    for section in ("Python", "Packages", "Extras", "Processor", "Devices", "Hugging Face hub", "Folders", "Text"):
        assert f"\n{section}\n" in "\n" + page.stdout


def test_a_problem_is_one_line_with_its_fix_and_exit_code_1(
    apelr: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    monkeypatch.setattr(doctor_packages, "installed_version", lambda name: "0.0.1" if name == "click" else "0.1.0")
    result = apelr("doctor")
    assert result.exit_code == 1
    problems = [line for line in result.stdout.splitlines() if line.startswith("problem: ")]
    (click_line,) = [line for line in problems if line.startswith("problem: click")]
    assert click_line == (
        'problem: click: 0.0.1 is not in the range (>=8.1 for apelr-cli); python -m pip install "click>=8.1"'
    )
    (runs,) = [line for line in problems if line.startswith("problem: runs")]
    assert runs.startswith(f"problem: runs: {tmp_path / 'runs'} cannot be written: ")
    assert runs.endswith("; go to another folder, or give one with --out")
    assert result.stdout.endswith("\nNot all is well: see the problems above.\n")


def test_a_torch_that_cannot_be_imported_is_a_problem_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise OSError("libtorch.so: cannot open\nshared object file")

    monkeypatch.setattr(doctor_machine.importlib, "import_module", fails)
    (found,) = doctor_machine.torch_findings()
    assert (found.state, found.value) == ("problem", "cannot be imported: libtorch.so: cannot open shared object file")


def test_packages_that_are_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"apelr-cli": "0.2.0", "apelr-model": "0.2.0", "apelr-data": "0.1.0"}
    monkeypatch.setattr(doctor_packages, "installed_version", versions.get)
    found = {each.name: each for each in doctor_packages.package_findings()}
    assert found["apelr-tokenizers"].value == "not installed"
    assert found["apelr-tokenizers"].fix == "python -m pip install apelr-tokenizers"
    assert found["apelr-data"].fix == 'python -m pip install "apelr-data==0.2.0"'
    assert found["apelr-model"].state == "ok"
    assert found["packaging"].value == "not installed: ranges cannot be checked"


class Declared:
    """What a distribution says of itself."""

    requires = (
        "click>=8.1",
        'older; python_version < "3"',
        'lm-eval>=0.4; extra == "lm-eval"',
        'tensorboardX>=2.6.2; extra == "tensorboard"',
        'pytest>=8; extra == "test"',
    )

    class metadata:
        @staticmethod
        def get_all(name: str) -> list[str]:
            return ["lm-eval", "tensorboard", "test"]


def test_extras_that_are_missing_or_old_are_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"apelr-cli": "0.1.0", "packaging": "26.0", "click": "8.5.1", "tensorboardX": "1.0"}
    monkeypatch.setattr(doctor_packages, "PACKAGES", ("apelr-cli",))
    monkeypatch.setattr(doctor_packages, "installed_version", versions.get)
    monkeypatch.setattr(doctor_packages.metadata, "distribution", lambda name: Declared)
    assert list(doctor_packages.package_findings()) == [
        Finding("Packages", "apelr-cli", "0.1.0"),
        Finding("Dependencies", "click", "8.5.1 (>=8.1 for apelr-cli)"),
        Finding("Extras", "apelr-cli[lm-eval]", 'not installed (lm-eval); python -m pip install "apelr-cli[lm-eval]"'),
        Finding(
            "Extras",
            "apelr-cli[tensorboard]",
            "tensorboardX 1.0 is not >=2.6.2",
            "warning",
            'python -m pip install "apelr-cli[tensorboard]"',
        ),
    ]


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that answers every HEAD with 503."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(503)

        def log_message(self, *arguments: object) -> None: ...

    http = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://user:secret@127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


def hub(**more: bool) -> dict[str, Finding]:
    return {each.name: each for each in doctor_surroundings.hub_findings(**more)}


def test_the_hub_is_asked_where_it_is_wanted(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = server.replace("user:secret@", "")
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert hub(ask=True)["answers"].value == "yes"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = hub(ask=True)
    assert found["answers"].value == "not asked: an offline variable is set"
    assert found["offline variables"].value == "HF_HUB_OFFLINE=1"


def test_a_hub_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    found = hub(ask=True)["answers"]
    assert found.state == "problem"
    assert found.value.startswith("no: ")
    monkeypatch.setattr(doctor_surroundings, "SECONDS", 0.01)
    waiting = threading.Event()

    def never_answers(*asked: object, **more: object) -> None:
        waiting.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(doctor_surroundings.urllib.request, "urlopen", never_answers)
    assert hub(ask=True)["answers"].value == "no: nothing within 0.02 seconds"
    waiting.set()


def test_an_endpoint_is_shown_without_its_password_or_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert hub(ask=False)["endpoint"].value == "127.0.0.1 (HF_ENDPOINT)"
    for wrong in ("file:///etc/passwd", "huggingface.co", "http://"):
        monkeypatch.setenv("HF_ENDPOINT", wrong)
        assert hub(ask=True)["HF_ENDPOINT"].state == "problem"


def test_folders_that_are_full_are_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {each.state for each in doctor_surroundings.folder_findings()} == {"ok"}
    assert not list(tmp_path.iterdir()), "nothing stays"
    usage = type(doctor_surroundings.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(doctor_surroundings.shutil, "disk_usage", lambda path: usage(10**12, 10**12, 1000))
    assert {each.state for each in doctor_surroundings.folder_findings()} == {"warning"}


def test_an_encoding_that_is_not_utf8_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_surroundings.locale, "getpreferredencoding", lambda setlocale: "ISO-8859-1")
    found = next(iter(doctor_surroundings.text_findings()))
    assert (found.state, found.name) == ("warning", "encoding")
    assert "PYTHONUTF8=1" in found.fix


def test_a_page_lists_what_is_wrong_below_and_hides_no_control_character() -> None:
    findings = [
        Finding("Text", "colours", "none \x1b[31m"),
        Finding("Text", "encoding", "latin", "warning", "set it"),
        Finding("Folders", "runs", "gone", "problem", "make it"),
    ]
    lines = list(doctor_lines(findings))
    assert lines[1].endswith("none \\x1b[31m")
    assert lines[-3:] == [
        "warning: encoding: latin; set it",
        "problem: runs: gone; make it",
        "Not all is well: see the problems above.",
    ]
    assert doctor_report(findings)["ok"] is False
    assert doctor_report(findings[:2])["ok"] is True
