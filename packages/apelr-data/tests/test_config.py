"""The rules of DataConfig and their messages."""

import dataclasses
import inspect
from typing import get_args

import pytest

from apelr_data import DataConfig, PlantedConfig, SourceName
from apelr_data.config import CAPS, LOCAL_SOURCES, MixedSource, SourceConfig

HF = {"source": "hf", "path": "owner/name"}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"source": "text"}, "path must be a file, folder or glob when source is text, got None"),
        ({"source": "text", "path": ""}, "path must be a file, folder or glob when source is text, got ''"),
        ({"path": "a.txt"}, "path must be null unless source is text or hf, got 'a.txt'"),
        ({"source": "hf"}, "path must be a dataset's id or a folder when source is hf, got None"),
        ({"source": "tinystories", "path": "a/b"}, "path must be null unless source is text or hf, got 'a/b'"),
        ({"val_path": "a.txt"}, "val_path must be null unless source is text, got 'a.txt'"),
        (
            {"source": "text", "path": "a", "val_path": ""},
            "val_path must be null or a file, folder or glob, got ''",
        ),
        ({"order": "sorted"}, "order must be shuffled or contiguous, got 'sorted'"),
        ({"order": "contiguous", "lane_rows": 0}, "lane_rows must be >= 1, got 0"),
        ({"lane_rows": 4}, "lane_rows must be left at its default unless order is contiguous, got 4"),
        ({"val_fraction": 0.0}, "val_fraction must be > 0 and < 1, got 0.0"),
        ({"val_fraction": 1.0}, "val_fraction must be > 0 and < 1, got 1.0"),
        ({"val_fraction": float("nan")}, "val_fraction must be > 0 and < 1, got nan"),
        ({"text_field": ""}, "text_field must be a name that is not empty, got ''"),
        ({"text_field": "body"}, "text_field must be text unless source is text or hf, got 'body'"),
        ({"source": "c4_en", "name": "en"}, "name must be null unless source is hf, got 'en'"),
        ({**HF, "name": ""}, "name must be null or the name of a configuration, got ''"),
        ({"revision": "main"}, "revision must be null unless source is a corpus of the hub, got 'main'"),
        ({**HF, "revision": ""}, "revision must be null or a branch, tag or commit, got ''"),
        ({"source": "c4_en", "train_split": "a"}, "train_split must be train unless source is hf, got 'a'"),
        ({**HF, "train_split": ""}, "train_split must be the name of a split, got ''"),
        ({"source": "c4_en", "val_split": "a"}, "val_split must be null unless source is hf, got 'a'"),
        ({**HF, "val_split": ""}, "val_split must be null or the name of a split, got ''"),
        (
            {**HF, "val_split": "train"},
            "val_split must be null or another split than train_split (train), got 'train'",
        ),
        (
            {"source": "text", "path": "a", "streaming": True},
            "streaming must be null unless source is a corpus of the hub, got True",
        ),
        ({"cache_dir": "a"}, "cache_dir must be null unless source is a corpus of the hub, got 'a'"),
        ({"source": "wikitext2", "cache_dir": ""}, "cache_dir must be null or a folder, got ''"),
        (
            {"source": "tinystories", "sources": (MixedSource(source="storyworld"),)},
            "source must be left out when sources are given: each has its own, got 'tinystories'",
        ),
        *[
            (values, f"planted must be null unless source is planted, got {values['planted']!r}")
            for values in (
                {"planted": PlantedConfig()},
                {"source": "python_docs", "planted": PlantedConfig(num_plans=2)},
                {"sources": (MixedSource(source="planted"),), "planted": PlantedConfig()},
            )
        ],
        ({"min_chars": -1}, "min_chars must be >= 0, got -1"),
        ({"token_cache_dir": ""}, "token_cache_dir must be null or a folder, got ''"),
        *[({cap: 0}, f"{cap} must be null or >= 1, got 0") for cap in CAPS],
    ],
)
def test_each_rule_has_its_line(values, line):
    with pytest.raises(ValueError) as caught:
        DataConfig(**values)
    assert str(caught.value) == line


def test_an_unknown_source_lists_the_known_ones():
    with pytest.raises(ValueError) as caught:
        DataConfig(source="tinystory")
    assert str(caught.value) == f"source must be one of {', '.join(get_args(SourceName))}, got 'tinystory'"


def test_all_broken_rules_are_named_at_once():
    with pytest.raises(ValueError) as caught:
        DataConfig(val_fraction=2, max_val_chars=-1)
    assert str(caught.value).splitlines() == [
        "val_fraction must be > 0 and < 1, got 2",
        "max_val_chars must be null or >= 1, got -1",
    ]


def test_defaults_need_no_network_and_no_file():
    config = DataConfig()
    assert (config.source, config.path) == ("storyworld", None)
    for source in get_args(SourceName):
        DataConfig(source=source, path="x" if source in ("text", "hf") else None)


@pytest.mark.parametrize("source", [name for name in get_args(SourceName) if name not in LOCAL_SOURCES])
def test_keys_of_every_corpus_of_the_hub(source):
    path = "owner/name" if source == "hf" else None
    DataConfig(source=source, path=path, revision="v1.0", streaming=False, cache_dir="folder")


@pytest.mark.parametrize("weight", [0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_positive_and_finite(weight):
    with pytest.raises(ValueError, match=r"^weight must be > 0 and finite, got "):
        MixedSource(source="storyworld", weight=weight)


def test_an_entry_of_a_mixture_names_its_source_and_keeps_its_rules():
    with pytest.raises(TypeError, match="source"):
        MixedSource()
    with pytest.raises(ValueError, match=r"^path must be a file, folder or glob when source is text, got None$"):
        MixedSource(source="text")


def test_the_parts_of_a_mixture_share_what_is_not_theirs():
    poems = MixedSource(source="hf", path="owner/poems", text_field="poem", weight=3)
    mixture = DataConfig(sources=(MixedSource(source="storyworld"), poems), val_fraction=0.2, min_chars=7)
    assert mixture.parts() == [
        DataConfig(val_fraction=0.2, min_chars=7),
        DataConfig(source="hf", path="owner/poems", text_field="poem", val_fraction=0.2, min_chars=7),
    ]
    alone = DataConfig(source="tinystories", max_val_chars=3)
    assert alone.parts() == [alone]


def test_caps_are_found_by_split():
    config = DataConfig(**{cap: number for number, cap in enumerate(CAPS, start=1)})
    for split, word in (("train", "train"), ("validation", "val")):
        for what in ("examples", "chars", "tokens"):
            assert getattr(config, f"max_{what}")(split) == getattr(config, f"max_{word}_{what}")


def test_it_is_frozen_and_every_field_has_its_sentence():
    config = DataConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.source = "text"
    for kind in (SourceConfig, MixedSource, DataConfig):
        source = inspect.getsource(kind)
        for field in inspect.get_annotations(kind):
            after = source.split(f"    {field}: ", 1)[1].splitlines()[1].strip()
            assert after.startswith('"'), field
            assert after.endswith('."'), field
