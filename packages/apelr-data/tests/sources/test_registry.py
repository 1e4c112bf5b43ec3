"""The table of sources."""

import dataclasses
from typing import get_args

import pytest

from apelr_data import OFFLINE_SOURCES, SOURCES, SourceName


def test_the_table_and_the_config_agree():
    assert tuple(SOURCES) == get_args(SourceName)
    assert all(info.name == name for name, info in SOURCES.items())


def test_the_offline_sources():
    assert OFFLINE_SOURCES == ("storyworld", "planted", "python_docs", "text")


@pytest.mark.parametrize("info", SOURCES.values(), ids=SOURCES)
def test_every_entry_is_complete(info):
    assert info.summary.endswith(".")
    assert info.summary.count(". ") == 0
    for field in ("size", "licence", "splits"):
        assert getattr(info, field)
    if info.offline:
        assert (info.hub_id, info.hub_config, info.hub_validation, info.streaming) == (None, None, None, False)
    elif info.name != "hf":
        assert info.hub_id.count("/") == 1
        assert info.hub_config
        assert ("hash" in info.splits) == (info.hub_validation is None)


def test_ids_configurations_and_reading_are_frozen():
    table = {
        info.name: (info.hub_id, info.hub_config, info.hub_validation, info.streaming)
        for info in SOURCES.values()
        if not info.offline
    }
    assert table == {
        "tinystories": ("roneneldan/TinyStories", "default", "validation", True),
        "wikitext103": ("Salesforce/wikitext", "wikitext-103-raw-v1", "validation", False),
        "wikitext2": ("Salesforce/wikitext", "wikitext-2-raw-v1", "validation", False),
        "fineweb_edu": ("HuggingFaceFW/fineweb-edu", "sample-10BT", None, True),
        "fineweb": ("HuggingFaceFW/fineweb", "sample-10BT", None, True),
        "c4_en": ("allenai/c4", "en", "validation", True),
        "wiki40b_en": ("google/wiki40b", "en", "validation", True),
        "cc_news": ("vblagoje/cc_news", "plain_text", None, True),
        "hf": (None, None, None, True),
    }


def test_how_each_is_read():
    assert [info.name for info in SOURCES.values() if info.reading == "local"] == list(OFFLINE_SOURCES)
    assert [info.name for info in SOURCES.values() if info.reading == "downloaded"] == ["wikitext103", "wikitext2"]
    assert [info.reading for info in SOURCES.values()].count("streamed") == 7


def test_entries_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOURCES["text"].size = "none"
