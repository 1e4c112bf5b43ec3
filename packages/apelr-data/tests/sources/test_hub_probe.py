"""A hub that does not answer, and reading without one."""

import socket
import threading

import pytest

from apelr_data import OFFLINE_SOURCES, DataError
from apelr_data.sources import hub_probe
from apelr_data.sources.hub_probe import require_hub

UNREACHABLE = """
import sys
from apelr_data import DataConfig, DataError, open_corpus
for options in ({"source": "tinystories"}, {"source": "hf", "path": "owner/name"})[: int(%r)]:
    try:
        next(open_corpus(DataConfig(**options), seed=0).documents("train"))
    except DataError as error:
        print(error)
print("datasets" in sys.modules)
"""


@pytest.mark.parametrize("listening", [False, True], ids=["refused", "silent"])
def test_a_hub_that_cannot_be_reached_is_one_line_that_names_the_offline_sources(run_python, tmp_path, listening):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = run_python(UNREACHABLE % 1, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    message, imported = done.stdout.splitlines()
    assert message.startswith(f"data.source tinystories: the hub at {endpoint} cannot be reached (")
    assert f"; use one of {', '.join(OFFLINE_SOURCES)}, or set HF_HUB_OFFLINE=1 " in message
    assert imported == "False"
    assert done.stderr == ""


@pytest.fixture
def server_at(monkeypatch):
    """Take an address for the hub's, and wait for it as long as a test can bear."""
    from huggingface_hub import constants

    def set_address(endpoint, seconds):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_probe, "PROBE_SECONDS", seconds)

    return set_address


@pytest.mark.parametrize("silent", ["the server", "the lookup of its name"])
def test_the_limit_is_all_the_time_that_a_silent_hub_takes(server_at, monkeypatch, silent):
    """Nothing here ever answers, so that without the limit no test would end."""
    assert 1 <= hub_probe.PROBE_SECONDS <= 5
    never = threading.Event()

    def lookup(*arguments, **more):
        never.wait()
        raise OSError

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server_at(f"http://127.0.0.1:{server.getsockname()[1]}", 0.05)
        if silent != "the server":
            monkeypatch.setattr(socket, "getaddrinfo", lookup)
        with pytest.raises(DataError, match=r"cannot be reached \((timed out|no answer in time)\)"):
            require_hub("data.source tinystories", "roneneldan/TinyStories")
        never.set()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"Welcome to the hotel's network", {}), "what answers there, with 200, is not the hub"),
        ((403, b"", {}), "what answers there, with 403, is not the hub"),
        ((404, b"", {}), "what answers there, with 404, is not the hub"),
        ((302, b"", {"Location": "/login"}), "what answers there, with 302, is not the hub"),
        ((407, b"", {}), "it answers 407"),
        ((407, b"", {"X-Error-Code": "Other"}), "it answers 407"),
        ((200, b"", {"X-Repo-Commit": "a" * 40}), None),
        ((401, b"", {"X-Error-Code": "GatedRepo"}), None),
        ((404, b"", {"X-Powered-By": "huggingface-moon"}), None),
        ((302, b"", {"Location": "http://127.0.0.1:9/x", "X-Linked-ETag": '"e"'}), None),
    ],
)
def test_only_the_hubs_own_answers_count_as_reached(hub, server_at, answer, reason):
    hub.answer = lambda method, path: answer
    server_at(hub.endpoint, 4.0)
    if reason is None:
        require_hub("data.source hf", "owner/name")
        return
    with pytest.raises(DataError) as caught:
        require_hub("data.source hf", "owner/name")
    assert str(caught.value) == (
        f"data.source hf: the hub at {hub.endpoint} cannot be reached ({reason}); use one of "
        f"{', '.join(OFFLINE_SOURCES)}, or set HF_HUB_OFFLINE=1 to read what is in the cache"
    )


def test_a_server_that_leads_to_the_hub_is_followed(hub, server_at):
    def answer(method, path):
        hub.asked.append(path)
        if path.startswith("/mirror"):
            return 301, b"", {"Location": path.removeprefix("/mirror")}
        return 200, b"", {"X-Repo-Commit": "a" * 40}

    hub.answer = answer
    server_at(f"{hub.endpoint}/mirror", 4.0)
    require_hub("data.source hf", "owner/name")
    card = "/datasets/owner/name/resolve/main/README.md"
    assert hub.asked == [f"/mirror{card}", card]


def test_a_hub_that_goes_silent_after_the_first_answer_is_the_same_line(hub, read_hub):
    """The library says then that it found neither a file nor a dataset."""

    def answer(method, path):
        hub.asked.append(path)
        return (200, b"", {"X-Repo-Commit": "a" * 40}) if len(hub.asked) == 1 else (503, b"", {})

    hub.answer = answer
    named, other = read_hub(
        ("train", {"source": "tinystories"}), ("train", {"source": "hf", "path": "owner/name"}), impatient=True
    )
    assert named.startswith(f"data.source tinystories: the hub at {hub.endpoint} cannot be reached (")
    assert f"; use one of {', '.join(OFFLINE_SOURCES)}, or set HF_HUB_OFFLINE=1 " in named
    assert "503 Service Unavailable" in named
    assert "find" not in named
    assert "cannot be reached (it answers 503)" in other


def test_a_server_failure_counts_as_not_reached(hub, run_python, hub_environment):
    hub.answer = lambda method, path: (503, b"", {})
    named, other, imported = run_python(UNREACHABLE % 2, **hub_environment).stdout.splitlines()
    assert "data.source tinystories: the hub at" in named
    assert "data.source hf: the hub at" in other
    assert "cannot be reached (it answers 503)" in named
    assert imported == "False"


def test_offline_mode_without_a_cache_is_one_line(read_hub):
    (message,) = read_hub(("train", {"source": "tinystories"}), HF_HUB_OFFLINE="1")
    assert message == (
        "data.source tinystories: HF_HUB_OFFLINE is set and roneneldan/TinyStories is not in the cache; "
        f"use one of {', '.join(OFFLINE_SOURCES)}, or unset it"
    )
