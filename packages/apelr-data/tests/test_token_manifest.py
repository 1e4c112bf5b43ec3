"""The manifest's description of a split: it comes back as it was, and nothing else is accepted."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apelr_data import TextReport
from apelr_data.token_file import Shard
from apelr_data.token_manifest import SplitTokens, split_from_plain

SHARDS = (Shard(length=4, type="|u1", sha256="ab"), Shard(length=3, type="<u2", sha256="cd"))
SPLIT = SplitTokens(
    tokens=7,
    documents=2,
    text_bytes=5,
    unknown=0,
    sha256="ef",
    ids=SHARDS,
    byte_counts=(Shard(length=7, type="|u1", sha256="01"),),
    report=TextReport(documents=2, characters=4, dropped_empty=1),
)
PLAIN = json.loads(json.dumps(SPLIT.to_plain()))


def test_it_comes_back_through_json():
    assert split_from_plain(PLAIN) == SPLIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 8}, "the files of ids must hold 8 values, at least 1"),
        ({"tokens": 0, "ids": []}, "the files of ids must hold 0 values, at least 1"),
        ({"byte_counts": []}, "the files of byte_counts must hold 7 values, at least 1"),
        ({"tokens": True}, "tokens must be a whole number >= 0, got True"),
        ({"documents": -1}, "documents must be a whole number >= 0, got -1"),
        ({"unknown": None}, "unknown must be a whole number >= 0, got None"),
        ({"sha256": 5}, "sha256 must be a str, got int"),
        ({"ids": {}}, "ids must be a list, got dict"),
        ({"ids": [5]}, "a shard must be a dict, got int"),
        ({"ids": [{"length": 0, "type": "|u1", "sha256": ""}]}, "a shard must hold a value"),
        ({"ids": [{"length": 7, "type": "O", "sha256": ""}]}, "a type must be one of |u1, <u2, <u4, got 'O'"),
        ({"report": 5}, "report must be a dict, got int"),
        ({"report": {}}, "documents must be a whole number >= 0, got None"),
    ],
)
def test_other_content_is_refused(change, message):
    with pytest.raises(ValueError) as caught:
        split_from_plain({**PLAIN, **change})
    assert str(caught.value) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*PLAIN, "length", "type"])


@given(st.dictionaries(NAMES, JSON) | JSON)
def test_nothing_but_a_value_error_comes_of_any_content(plain):
    with contextlib.suppress(ValueError):
        split_from_plain({**PLAIN, **plain} if isinstance(plain, dict) else plain)
