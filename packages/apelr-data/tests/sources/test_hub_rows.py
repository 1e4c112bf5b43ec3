"""Streams that end early or lose their connection, and what they fetch."""

import errno
import gzip
import json
import os

import pytest

from apelr_data.sources import hub_rows

LARGE_GROUPS = 8


@pytest.fixture(scope="module")
def large_file(parquet):
    """Row groups of 6 MB each, more than the library's reader and its read-ahead hold at once."""
    texts = [os.urandom(30_000).hex() for _ in range(100 * LARGE_GROUPS)]
    return texts, parquet(rows_a_group=100, id=list(range(len(texts))), text=texts)


def test_a_stream_that_a_cap_ends_early_leaves_no_noise_and_no_thread(hub, read_hub, large_file):
    texts, content = large_file
    hub.add("HuggingFaceFW/fineweb", "sample-10BT", {"train": {"sample/10BT/0.parquet": content}}, "id:int64 text")
    # the process would hang here, or abort with a message, if a thread of its went on reading
    capped = {"max_train_examples": 3, "val_fraction": 1e-9}
    assert read_hub(("train", {"source": "fineweb", **capped})) == [texts[:3]]
    assert hub.sent["0.parquet"] < 0.3 * len(content)
    sources = [{"source": "fineweb"}, {"source": "storyworld"}]
    mixture = {"sources": sources, "max_train_chars": 200_000, "val_fraction": 1e-9}  # no text is held out by chance
    (mixed,) = read_hub(("train", mixture))
    assert mixed[0] == texts[0]
    assert sum(map(len, mixed)) == 200_000


WATCHED = """
import threading, huggingface_hub.hf_file_system as hub
fetch, threads = hub.HfFileSystemFile._fetch_range, set()

def watched(self, start, end):
    threads.add(threading.current_thread())
    return fetch(self, start, end)

hub.HfFileSystemFile._fetch_range = watched
from apelr_data import DataConfig, open_corpus
documents = open_corpus(DataConfig(source="fineweb"), seed=0).documents("train")
print(sum(1 for text in documents), threads == {threading.main_thread()})
"""


def test_a_stream_of_parquet_is_read_by_the_calling_thread_alone(hub, run_python, hub_environment, large_file):
    texts, content = large_file
    hub.add("HuggingFaceFW/fineweb", "sample-10BT", {"train": {"sample/10BT/0.parquet": content}}, "id:int64 text")
    done = run_python(WATCHED, **hub_environment)
    count, alone = done.stdout.split()
    assert len(texts) * 0.9 < int(count) < len(texts)
    assert alone == "True"


@pytest.fixture
def corpora(hub, parquet):
    """The same documents as two parquet files and as two of JSON."""
    texts = [f"document {i} " + os.urandom(300).hex() for i in range(416)]
    lines = [json.dumps({"text": text, "timestamp": "2019-04-25T12:57:54Z"}) for text in texts]
    tables = {f"data/{i}.parquet": parquet(text=part) for i, part in enumerate((texts[:208], texts[208:]))}
    zipped = {
        f"en/{i}.json.gz": gzip.compress("\n".join(part).encode()) for i, part in enumerate((lines[:208], lines[208:]))
    }
    check = {"data/check.parquet": parquet(text=["held out"])}, {"en/check.json.gz": gzip.compress(b'{"text": "x"}')}
    hub.add("someone/tables", "default", {"train": tables, "check": check[0]})
    hub.add("someone/lines", "default", {"train": zipped, "check": check[1]}, "text timestamp")
    return texts


@pytest.mark.parametrize("path", ["someone/tables", "someone/lines"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_connection_that_drops_now_and_then_loses_and_repeats_nothing(hub, corpora, read_hub, path, streaming):
    # of a stream more than the requests of a single try
    hub.drops = 9 if streaming else 3
    wanted = {"source": "hf", "path": path, "streaming": streaming, "val_split": "check"}
    (got,) = read_hub(("train", wanted), impatient=True)
    assert got == corpora
    assert hub.drops == 0


@pytest.mark.parametrize("path", ["someone/tables", "someone/lines"])
def test_a_connection_that_stays_lost_is_one_line_after_bounded_patience(hub, corpora, read_hub, path):
    hub.drops, hub.drop_in = 10**9, "1."
    wanted = {"source": "hf", "path": path, "val_split": "check"}
    (message,) = read_hub(("train", wanted), impatient=True)
    assert message.startswith(
        f"data.source hf ({path}): the connection was lost after 208 rows and did not come back ("
    )
    assert message.endswith("; run again, or set data.streaming to false")
    assert "\n" not in message
    assert 10**9 - hub.drops < 100


class Answer:
    status_code = 0


def with_status(status):
    error = OSError("refused")
    error.response = Answer()
    error.response.status_code = status
    return error


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), 4),
        (TimeoutError("slow"), 4),
        (OSError(errno.ENETUNREACH, "no route"), 4),
        (OSError("Consistency check failed: file should be of size 2 but has size 1"), 4),
        (with_status(503), 4),
        (with_status(429), 4),
        (with_status(403), 1),
        (with_status(404), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (PermissionError(errno.EACCES, "Permission denied"), 1),
        (OSError("Not enough disk space. Needed: 1 TB"), 1),
        (FileNotFoundError(errno.ENOENT, "gone"), 1),
        (EOFError("ends early"), 1),
    ],
    ids=str,
)
def test_only_what_the_network_did_is_tried_again(monkeypatch, error, tries):
    calls, pauses = [], []

    def download():
        calls.append(1)
        raise error

    monkeypatch.setattr(hub_rows.time, "sleep", pauses.append)
    with pytest.raises(type(error)) as caught:
        hub_rows._patiently(download)
    assert caught.value is error
    assert len(calls) == tries
    assert pauses == list(hub_rows.DOWNLOAD_PAUSES[: tries - 1])
