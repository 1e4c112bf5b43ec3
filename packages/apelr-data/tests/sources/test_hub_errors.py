"""What the hub does not have: one line that says what there is, the nearest first."""

import errno
import gzip
import json
import lzma
import os
import zlib

import pytest

from apelr_data import DataConfig, DataError, open_corpus
from apelr_data.sources.hub import HubSource


@pytest.fixture
def poems(hub, parquet):
    """A dataset with two configurations, two splits and columns of two kinds."""
    table = parquet(id=[1, 2], body=["one", "two"], title=["I", "II"])
    for config in ("large", "small"):
        files = {"train": {f"{config}/train.parquet": table}, "held_out": {f"{config}/held_out.parquet": table}}
        hub.add("someone/poems", config, files, "id:int64 body title")
    return {"source": "hf", "path": "someone/poems", "name": "small", "text_field": "body"}


def test_each_wrong_key_is_named_with_what_there_is(hub, poems, read_hub):
    hub.add("someone/novels", "default", {"train": {"a.parquet": b""}})
    hub.add("another/poems-of-old", "default", {"train": {"a.parquet": b""}})
    hub.add("closed/poems", "default", {"train": {"a.parquet": b""}})
    hub.gated.add("closed/poems")
    small = "someone/poems, small"
    expected = {
        "data.path: the hub has no dataset 'someone/poem', or it is private; the nearest there: "
        "someone/poems, someone/novels, closed/poems, another/poems-of-old": {"path": "someone/poem"},
        "data.path: the hub has no dataset 'nobody/nothing', or it is private": {"path": "nobody/nothing"},
        "data.path: Dataset 'closed/poems' is a gated dataset on the Hub. You must be authenticated to access it. "
        "Ask for access on its page, then run `hf auth login` or set HF_TOKEN": {"path": "closed/poems"},
        "data.revision: someone/poems has no revision 'v1'; there is v1.0, main": {"revision": "v1"},
        "data.name: someone/poems has no configuration 'smal'; there is small, large": {"name": "smal"},
        "data.name: someone/poems has several configurations; choose one of large, small": {"name": None},
        f"data.train_split: {small} has no split 'training'; there is train, held_out": {"train_split": "training"},
        "data.train_split: parts and sums of splits need streaming: false; there is train, held_out": {
            "train_split": "train[:50%]"
        },
        f"data.text_field: {small} has no column 'titel'; there is title, id, body": {"text_field": "titel"},
        f"data.text_field: {small} holds no text in 'id' but int64": {"text_field": "id"},
    }
    got = read_hub(*[("train", {**poems, **change}) for change in expected.values()])
    assert got == list(expected)


@pytest.mark.parametrize("streaming", [True, False])
def test_splits_and_columns_of_streams_and_downloads(hub, poems, read_hub, streaming):
    given = {**poems, "streaming": streaming}
    got = read_hub(("validation", {**given, "val_split": "heldout"}), ("train", {**given, "text_field": "titel"}))
    assert got == [
        "data.val_split: someone/poems, small has no split 'heldout'; there is held_out, train",
        "data.text_field: someone/poems, small has no column 'titel'; there is title, id, body",
    ]


def test_a_named_corpus_that_has_changed_on_the_hub(hub, parquet, read_hub):
    hub.add("allenai/c4", "de", {"train": {"de/c4-train.json": b'{"text": "x"}\n'}})
    hub.add("roneneldan/TinyStories", "default", {"train": {"data/train.parquet": parquet(text=["a story"])}})
    hub.add("google/wiki40b", "en", {"train": {"en/train.parquet": parquet(body=["x"], title=["y"])}}, "body title")
    got = read_hub(
        ("train", {"source": "cc_news"}),
        ("train", {"source": "c4_en"}),
        ("validation", {"source": "tinystories"}),
        ("train", {"source": "wiki40b_en"}),
        ("train", {"source": "tinystories", "revision": "v9"}),
    )
    assert got == [
        "data.source cc_news: the hub has no dataset 'vblagoje/cc_news', or it is private",
        "data.source c4_en: allenai/c4 has no configuration 'en'; there is de",
        "data.source tinystories: roneneldan/TinyStories, default has no split 'validation'; there is train",
        "data.source wiki40b_en: google/wiki40b, en has no column 'text'; there is title, body",
        "data.revision: roneneldan/TinyStories has no revision 'v9'; there is v1.0, main",
    ]


def test_an_entry_of_a_mixture_is_named_by_its_place(hub, poems, read_hub):
    entries = [{"source": "storyworld"}, {**poems, "text_field": "text"}]
    (message,) = read_hub(("train", {"sources": entries}))
    assert message == "data.sources[1].text_field: someone/poems, small has no column 'text'; there is title, id, body"


def test_a_dataset_that_is_a_script_is_one_line(hub, parquet, read_hub):
    hub.add("someone/old", "default", {"train": {"train.parquet": parquet(text=["x"])}})
    hub.files["someone/old"]["old.py"] = b"print('never run')\n"
    (message,) = read_hub(("train", {"source": "hf", "path": "someone/old"}))
    assert message == "data.source hf (someone/old): Dataset scripts are no longer supported, but found old.py"


@pytest.mark.parametrize("path", ["./nothing", "/no/such/folder", "a/b/c", "../x"])
def test_a_path_that_is_neither_folder_nor_id_fails_when_it_is_opened(path):
    with pytest.raises(DataError) as caught:
        open_corpus(DataConfig(source="hf", path=path), seed=0)
    assert str(caught.value).startswith(f"data.path: '{path}' is no folder here; give a folder or a dataset's id")


def damaged(name):
    """A compressed file, cut in the middle or with a part of it overwritten."""
    lines = "\n".join(json.dumps({"text": os.urandom(40).hex()}) for _ in range(2000)).encode()
    content = (lzma if name.endswith("xz") else gzip).compress(lines)
    half = len(content) // 2
    if name.startswith("half"):
        return content[:half]
    return content[:half] + b"\0" * 40 + content[half + 40 :]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_file_that_cannot_be_read_is_one_line(read_hub, tmp_path, streaming):
    files = {
        "half.jsonl.gz": "Compressed file ended before the end-of-stream marker was reached",
        "half.jsonl.xz": "Compressed file ended before the end-of-stream marker was reached",
        "damaged.jsonl.xz": "Corrupt input data",
        "empty.jsonl": "the data files hold no rows",
        "wrong.jsonl": "JSON parse error: Invalid value. in row 1",
    }
    content = {"empty.jsonl": b"", "wrong.jsonl": b'{"text": "x"}\n{"text": \n'}
    for name in files:
        (tmp_path / name.replace(".", "-")).mkdir()
        (tmp_path / name.replace(".", "-") / name).write_bytes(content[name] if name in content else damaged(name))
    folders = [str(tmp_path / name.replace(".", "-")) for name in files]
    got = read_hub(*[("train", {"source": "hf", "path": path, "streaming": streaming}) for path in folders])
    assert got == [f"data.source hf ({path}): {words}" for path, words in zip(folders, files.values(), strict=True)]


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize(
    "error",
    [
        EOFError("ends early"),
        zlib.error("Error -3"),
        lzma.LZMAError("Corrupt"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=repr,
)
def test_what_has_gone_wrong_on_this_machine_is_said_and_is_no_lost_connection(tmp_path, monkeypatch, error, rows):
    def texts(split):
        yield from ["text"] * rows
        raise error

    source = HubSource("data", DataConfig(source="hf", path=str(tmp_path)))
    monkeypatch.setattr(source._rows, "texts", texts)
    with pytest.raises(DataError) as caught:
        list(source.read("train"))
    assert str(caught.value) == f"data.source hf ({tmp_path}): {error}"


def test_a_part_of_a_split_that_makes_no_sense_lists_the_splits(hub, poems, read_hub):
    wrong = ("train[:zz]", "train[", "train+", "training[:50%]")
    got = read_hub(*[("train", {**poems, "streaming": False, "train_split": split}) for split in wrong])
    assert (
        got[0]
        == "data.train_split: 'train[:zz]' is no split, part of one (train[:90%]) or sum; there is train, held_out"
    )
    assert all(line.startswith("data.train_split: ") and line.endswith("there is train, held_out") for line in got)
    assert not [call for call in hub.asked if call.endswith(".parquet") and call.startswith("GET")]
