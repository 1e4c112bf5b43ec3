"""The rules of DataConfig and their messages."""

import dataclasses
import inspect
from typing import get_args

import pytest

from apelr_data import DataConfig, SourceName
from apelr_data.config import CAPS


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"source": "text"}, "path must be a file, folder or glob when source is text, got None"),
        ({"source": "text", "path": ""}, "path must be a file, folder or glob when source is text, got ''"),
        ({"path": "a.txt"}, "path must be null unless source is text, got 'a.txt'"),
        ({"val_path": "a.txt"}, "val_path must be null unless source is text, got 'a.txt'"),
        (
            {"source": "text", "path": "a", "val_path": ""},
            "val_path must be null or a file, folder or glob, got ''",
        ),
        ({"val_fraction": 0.0}, "val_fraction must be > 0 and < 1, got 0.0"),
        ({"val_fraction": 1.0}, "val_fraction must be > 0 and < 1, got 1.0"),
        ({"val_fraction": float("nan")}, "val_fraction must be > 0 and < 1, got nan"),
        ({"text_field": ""}, "text_field must be a name that is not empty, got ''"),
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
        DataConfig(source=source, path="x" if source == "text" else None)


def test_caps_are_found_by_split():
    config = DataConfig(**{cap: number for number, cap in enumerate(CAPS, start=1)})
    for split, word in (("train", "train"), ("validation", "val")):
        for what in ("examples", "chars", "tokens"):
            assert getattr(config, f"max_{what}")(split) == getattr(config, f"max_{word}_{what}")


def test_it_is_frozen_and_every_field_has_its_sentence():
    config = DataConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.source = "text"
    source = inspect.getsource(DataConfig)
    for field in dataclasses.fields(DataConfig):
        after = source.split(f"    {field.name}: ", 1)[1].splitlines()[1].strip()
        assert after.startswith('"'), field.name
        assert after.endswith('."'), field.name
