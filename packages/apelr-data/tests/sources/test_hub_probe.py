"""A hub that does not answer, and reading without one."""

import socket
import time

import pytest

from apelr_data import OFFLINE_SOURCES

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
        started = time.monotonic()
        done = run_python(UNREACHABLE % 1, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
        seconds = time.monotonic() - started
    message, imported = done.stdout.splitlines()
    assert message.startswith(f"data.source tinystories: the hub at {endpoint} cannot be reached (")
    assert f"; use one of {', '.join(OFFLINE_SOURCES)}, or set HF_HUB_OFFLINE=1 " in message
    assert imported == "False"
    assert done.stderr == ""
    assert seconds < 15  # without the probe the library's own retries alone take 23 s


def test_a_server_failure_counts_as_not_reached(hub, run_python, hub_environment):
    hub.answer = lambda method, path: (503, b"", {})
    named, other, imported = run_python(UNREACHABLE % 2, **hub_environment).stdout.splitlines()
    assert "data.source tinystories: the hub at" in named
    assert "data.source hf: the hub at" in other
    assert "cannot be reached (it answers 503)" in named
    assert imported == "False"


def test_offline_mode_without_a_cache_is_one_line(read_hub):
    (message,) = read_hub(("train", {"source": "tinystories"}), HF_HUB_OFFLINE="1", noise=True)
    assert message.startswith("data.source tinystories (roneneldan/TinyStories, default): Couldn't reach")
    assert "\n" not in message
