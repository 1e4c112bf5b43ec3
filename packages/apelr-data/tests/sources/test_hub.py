"""The eight named corpora, and hf, read by the real library from a server on this machine."""

import json

import pytest

from apelr_data import SOURCES

NAMES = [name for name in SOURCES if SOURCES[name].hub_id]


def test_there_are_eight_named_corpora():
    assert len(NAMES) == 8


@pytest.mark.parametrize("turned", [False, True], ids=["in its own way", "in the other way"])
def test_every_named_corpus_gives_both_splits_streamed_and_downloaded(hub, fill, read_hub, turned):
    expected = {name: fill(hub, name) for name in NAMES}
    pairs = [(name, split) for name in NAMES for split in ("train", "validation")]
    options = {n: {"val_fraction": 0.3, "streaming": not SOURCES[n].streaming if turned else None} for n in NAMES}
    got = dict(
        zip(pairs, read_hub(*[(split, {"source": name, **options[name]}) for name, split in pairs]), strict=True)
    )
    for name in NAMES:
        train, validation = got[name, "train"], got[name, "validation"]
        if SOURCES[name].hub_validation:
            assert (train, validation) == (expected[name]["train"], expected[name]["validation"])
        else:
            assert train
            assert validation
            assert sorted(train + validation) == sorted(expected[name]["train"])
    assert not [call for call in hub.asked if "V2-GPT4" in call]


def data_files(hub):
    return {call.rpartition("/")[2] for call in hub.asked if "-of-0000" in call}


@pytest.mark.parametrize("streaming", [True, False])
def test_a_validation_set_costs_no_file_of_another_split(hub, fill, read_hub, streaming):
    held_out = [name for name in NAMES if SOURCES[name].hub_validation]
    for name in held_out:
        fill(hub, name)
    read_hub(*[("validation", {"source": name, "streaming": streaming}) for name in held_out])
    assert data_files(hub)
    assert all("validation" in name for name in data_files(hub))


def test_a_few_validation_documents_of_a_stream_cost_its_beginning(hub, fill, read_hub):
    fill(hub, "cc_news")
    fill(hub, "c4_en")
    few = {"max_val_examples": 2, "val_fraction": 0.3}
    news, web = read_hub(("validation", {"source": "cc_news", **few}), ("validation", {"source": "c4_en", **few}))
    assert len(news) == len(web) == 2
    assert data_files(hub) == {"train-00000-of-00002.parquet", "c4-validation.00000-of-00002.json.gz"}


def test_the_held_out_documents_do_not_depend_on_the_order_of_files(hub, parquet, read_hub):
    documents = [f"news {i}\n" for i in range(40)]
    orders = {"cc_news": (documents[:30], documents[30:]), "fineweb": (documents[:19:-1], documents[19::-1])}
    for name, files in orders.items():
        parts = {f"{name}/train-{i}.parquet": parquet(text=part) for i, part in enumerate(files)}
        hub.add(SOURCES[name].hub_id, SOURCES[name].hub_config, {"train": parts})
    news, web = read_hub(*[("validation", {"source": name, "val_fraction": 0.3}) for name in orders])
    assert news == web[::-1]
    assert 4 <= len(news) <= 20


def test_what_was_downloaded_once_is_read_without_the_hub(hub, fill, read_hub, tmp_path):
    expected = fill(hub, "wikitext2")
    folder = tmp_path / "prepared"
    wanted = ("train", {"source": "wikitext2", "cache_dir": str(folder)})
    read_hub(wanted)
    assert list(folder.rglob("*.arrow"))
    hub.asked.clear()
    assert read_hub(wanted, HF_HUB_OFFLINE="1") == [expected["train"]]
    assert hub.asked == []


BOTH_SPLITS = """
from apelr_data import DataConfig, open_corpus
for streaming in (True, False):
    corpus = open_corpus(DataConfig(source="tinystories", streaming=streaming), seed=0)
    print(len(list(corpus.documents("train"))), len(list(corpus.documents("validation"))))
"""


def test_both_splits_of_a_corpus_are_of_the_commit_that_was_looked_up_first(hub, fill, run_python, hub_environment):
    fill(hub, "tinystories")
    assert run_python(BOTH_SPLITS, **hub_environment).stdout == "40 40\n40 40\n"
    looked_up = [call for call in hub.asked if call.startswith("HEAD") and "/resolve/main/" in call]
    assert len(looked_up) == 4  # our own question and the library's, for each of the two


def test_any_dataset_with_its_own_names(hub, parquet, read_hub):
    rows = {"learn": [f"poem {i}" for i in range(30)], "check": ["held out"]}
    files = {
        split: {f"{split}.parquet": parquet(id=list(range(len(texts))), body=texts)} for split, texts in rows.items()
    }
    hub.add("someone/poems", "small", files, "id:int64 body")
    hub.add("someone/poems", "other", {"learn": {"other.parquet": parquet(body=["another"])}}, "body")
    given = {"source": "hf", "path": "someone/poems", "name": "small", "text_field": "body", "train_split": "learn"}
    split = {**given, "val_split": "check"}
    downloaded = {**given, "streaming": False, "train_split": "learn[:20]+check", "val_split": "learn[20:]"}
    got = read_hub(
        ("train", split),
        ("validation", split),
        ("train", {**given, "val_fraction": 0.3}),
        ("validation", {**given, "val_fraction": 0.3, "revision": "v1.0"}),
        ("train", downloaded),
        ("validation", downloaded),
    )
    assert got[:2] == [rows["learn"], rows["check"]]
    assert sorted(got[2] + got[3]) == sorted(rows["learn"])
    assert len(got[3]) > 2
    assert got[4:] == [rows["learn"][:20] + rows["check"], rows["learn"][20:]]


@pytest.mark.parametrize("streaming", [None, False])
def test_a_local_folder_needs_no_hub(read_hub, parquet, tmp_path, hub, streaming):
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [json.dumps({"story": f"story {i}", "when": "2019-04-25T12:57:54Z"}) for i in range(6)]
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    given = {"source": "hf", "path": str(folder), "text_field": "story", "streaming": streaming}
    train, validation = read_hub(("train", given), ("validation", given), HF_ENDPOINT="http://127.0.0.1:9")
    assert sorted(train + validation) == [f"story {i}" for i in range(6)]
    assert len(validation) == 1
    assert hub.asked == []
