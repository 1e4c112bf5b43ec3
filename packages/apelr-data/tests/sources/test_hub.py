"""The eight named corpora, read by the real library from a server on this machine."""

import gzip
import io
import json
import socket
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apelr_data import OFFLINE_SOURCES, SOURCES

READ = """
import json, sys
from apelr_data import DataConfig, DataError, open_corpus
out = {}
for name, split, options in json.loads(sys.stdin.read() or %r):
    corpus = open_corpus(DataConfig(source=name, **options), seed=0)
    try:
        out[name + "/" + split] = list(corpus.documents(split))
    except DataError as error:
        out[name + "/" + split] = str(error)
print(json.dumps(out))
"""

WIKITEXT = {
    "train": ["", " = First article = \n", "", " Body one . \n", " = = Part = = \n", " x = 1 \n", "",
              " = Second article = \n", "", " Body two . \n"],
    "validation": ["", " = Held out = \n", "", " Validation body . \n"],
    "test": ["", " = Tested = \n", "", " Test body . \n"],
}  # fmt: skip
ARTICLES = {
    "train": [
        " = First article = \n\n Body one . \n = = Part = = \n x = 1 \n",
        " = Second article = \n\n Body two . \n",
    ],
    "validation": [" = Held out = \n\n Validation body . \n"],
}


def parquet(**columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def texts(name: str, split: str) -> list[str]:
    return [f"{name} {split} document {i}\n" for i in range(40)]


def fill(hub, name):
    """Put one corpus on the server: its documents, and what reading should give."""
    info = SOURCES[name]
    splits = ["train", info.hub_validation] if info.hub_validation else ["train"]
    files, expected = {}, {}
    for split in splits:
        rows = expected[split] = texts(name, split)
        if name.startswith("wikitext"):
            rows, expected[split] = WIKITEXT[split], ARTICLES[split]
        elif name == "wiki40b_en":
            marked = "\n_START_ARTICLE_\nTïtle\n_START_SECTION_\nPart\n_START_PARAGRAPH_\nOne._NEWLINE_Two."
            rows = [marked, str(marked.encode())]
            expected[split] = ["Tïtle\n\nPart\n\nOne.\nTwo."] * 2
        if name == "c4_en":
            lines = [json.dumps({"text": t, "timestamp": "2019-04-25T12:57:54Z", "url": "u"}) for t in rows]
            files[split] = {
                f"en/c4-{split}.{i:05d}-of-00002.json.gz": gzip.compress("\n".join(part).encode())
                for i, part in enumerate((lines[:20], lines[20:]))
            }
        else:
            half = len(rows) // 2
            parts = [rows[:half], rows[half:]]
            files[split] = {
                f"{info.hub_config}/{split}-{i:05d}-of-00002.parquet": parquet(
                    id=[str(n) for n in range(len(part))], text=part
                )
                for i, part in enumerate(parts)
            }
    if name.startswith("wikitext"):
        files["test"] = {f"{info.hub_config}/test-00000-of-00001.parquet": parquet(text=WIKITEXT["test"])}
    hub.add(info.hub_id, info.hub_config, files)
    return expected


def read(run_python, environment, *wanted, **more):
    done = run_python(READ % json.dumps(wanted), **environment, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done


NAMES = [name for name in SOURCES if SOURCES[name].hub_id]


def test_there_are_eight_named_corpora():
    assert len(NAMES) == 8


def test_every_named_corpus_gives_both_splits(hub, run_python, hub_environment):
    expected = {name: fill(hub, name) for name in NAMES}
    wanted = [(name, split, {"val_fraction": 0.3}) for name in NAMES for split in ("train", "validation")]
    got, done = read(run_python, hub_environment, *wanted)
    for name in NAMES:
        train, validation = got[f"{name}/train"], got[f"{name}/validation"]
        if SOURCES[name].hub_validation:
            assert (train, validation) == (expected[name]["train"], expected[name]["validation"])
        else:
            assert train
            assert validation
            assert sorted(train + validation) == sorted(expected[name]["train"])
    assert "Exception ignored" not in done.stderr


def test_a_small_validation_set_of_a_streamed_corpus_downloads_no_training_file(hub, run_python, hub_environment):
    streamed = [name for name in NAMES if SOURCES[name].streaming and SOURCES[name].hub_validation]
    for name in streamed:
        fill(hub, name)
    read(run_python, hub_environment, *[(name, "validation", {}) for name in streamed])
    training = {call for call in hub.asked if "train-" in call}
    assert all("train-00000" in call or "train.00000" in call for call in training)  # a look at the first one's kind
    assert {call for call in hub.asked if "validation-00001" in call}


def test_a_stream_that_a_cap_ends_early_leaves_no_noise(hub, run_python, hub_environment):
    fill(hub, "tinystories")
    got, done = read(run_python, hub_environment, ("tinystories", "train", {"max_train_examples": 3}))
    assert got["tinystories/train"] == texts("tinystories", "train")[:3]
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_held_out_documents_do_not_depend_on_the_order_of_files(hub, run_python, hub_environment):
    documents = texts("news", "train")
    orders = {"cc_news": (documents[:30], documents[30:]), "fineweb": (documents[:19:-1], documents[19::-1])}
    for name, files in orders.items():
        parts = {f"{name}/train-{i}.parquet": parquet(text=part) for i, part in enumerate(files)}
        hub.add(SOURCES[name].hub_id, SOURCES[name].hub_config, {"train": parts})
    got, _ = read(run_python, hub_environment, *[(name, "validation", {"val_fraction": 0.3}) for name in orders])
    assert got["cc_news/validation"] == got["fineweb/validation"][::-1]
    assert 4 <= len(got["cc_news/validation"]) <= 20


def only_line(message, *parts):
    assert isinstance(message, str)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_unknown_dataset_config_split_and_column_are_one_line_that_says_what_there_is(hub, run_python, hub_environment):
    story = parquet(text=["a story"])
    hub.add("allenai/c4", "de", {"train": {"de/c4-train.json": b'{"text": "x"}\n'}})
    hub.add("roneneldan/TinyStories", "default", {"train": {"data/train.parquet": story}})
    hub.add("google/wiki40b", "en", {"train": {"en/train.parquet": parquet(body=["x"], title=["y"])}})
    got, _ = read(
        run_python,
        hub_environment,
        ("cc_news", "train", {}),
        ("c4_en", "train", {}),
        ("tinystories", "validation", {}),
        ("wiki40b_en", "train", {}),
    )
    only_line(got["cc_news/train"], "data.source cc_news", "vblagoje/cc_news", "doesn't exist")
    only_line(got["c4_en/train"], "data.source c4_en", "'en' not found", "['de']")
    only_line(got["tinystories/validation"], "data.source tinystories", "validation", "train")
    only_line(got["wiki40b_en/train"], "no column 'text'", "body, title")


UNREACHABLE = """
import sys
from apelr_data import DataConfig, DataError, open_corpus
try:
    next(open_corpus(DataConfig(source="tinystories"), seed=0).documents("train"))
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
        done = run_python(UNREACHABLE, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
        seconds = time.monotonic() - started
    message, imported = done.stdout.splitlines()
    only_line(message, "data.source tinystories", endpoint, "cannot be reached", *OFFLINE_SOURCES)
    assert imported == "False"
    assert done.stderr == ""
    assert seconds < 15  # without the probe the library's own retries alone take 23 s


def test_a_server_failure_counts_as_not_reached(hub, run_python, hub_environment):
    hub.answer = lambda method, path: (503, b"", {})
    done = run_python(UNREACHABLE, **hub_environment)
    only_line(done.stdout.splitlines()[0], "cannot be reached (it answers 503)")


def test_offline_mode_reads_the_cache_and_asks_nobody(hub, run_python, hub_environment):
    expected = fill(hub, "wikitext2")
    read(run_python, hub_environment, ("wikitext2", "train", {}))
    hub.asked.clear()
    got, _ = read(run_python, {**hub_environment, "HF_HUB_OFFLINE": "1"}, ("wikitext2", "train", {}))
    assert got["wikitext2/train"] == expected["train"]
    assert hub.asked == []


def test_offline_mode_without_a_cache_is_one_line(hub, run_python, hub_environment):
    got, _ = read(run_python, {**hub_environment, "HF_HUB_OFFLINE": "1"}, ("tinystories", "train", {}))
    only_line(got["tinystories/train"], "data.source tinystories", "roneneldan/TinyStories", "Couldn't reach")
