"""The rules of PlantedConfig and their messages."""

import dataclasses
import inspect

import pytest

from apelr_data import PlantedConfig
from apelr_data.planted_config import LARGEST_TABLES, LONGEST_TEXT

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"num_plans": 0}, "num_plans must be >= 1, got 0"),
        ({"vocab_size": 1}, "vocab_size must be >= 2, got 1"),
        (
            {"num_plans": 99, "vocab_size": 1000},
            "vocab_size must be such that num_plans + 1 (100) tables of (vocab_size + 1) x vocab_size hold at most "
            f"{LARGEST_TABLES} numbers, got 1000",
        ),
        ({"chunk_size": 0}, "chunk_size must be >= 1, got 0"),
        ({"chunk_offset": 2}, "chunk_offset must be 0 or 1, got 2"),
        ({"self_transition": 1.0}, "self_transition must be >= 0 and < 1, got 1.0"),
        ({"self_transition": -0.1}, "self_transition must be >= 0 and < 1, got -0.1"),
        ({"self_transition": NAN}, "self_transition must be >= 0 and < 1, got nan"),
        ({"overlap": 1.1}, "overlap must be >= 0 and <= 1, got 1.1"),
        ({"overlap": NAN}, "overlap must be >= 0 and <= 1, got nan"),
        ({"concentration": 0.0}, "concentration must be > 0 and <= 1000000, got 0.0"),
        ({"concentration": NAN}, "concentration must be > 0 and <= 1000000, got nan"),
        ({"concentration": 1e7}, "concentration must be > 0 and <= 1000000, got 10000000.0"),
        ({"table_seed": -1}, "table_seed must be null or between 0 and 2^63 - 1, got -1"),
        ({"train_tokens": 0}, f"train_tokens must be >= 1 and <= {LONGEST_TEXT}, got 0"),
        ({"val_tokens": LONGEST_TEXT + 1}, f"val_tokens must be >= 1 and <= {LONGEST_TEXT}, got {LONGEST_TEXT + 1}"),
    ],
)
def test_each_rule_has_its_line(values, line):
    with pytest.raises(ValueError) as caught:
        PlantedConfig(**values)
    assert str(caught.value) == line


def test_every_rule_is_tested_above_and_all_broken_ones_are_named_at_once():
    assert len(PlantedConfig().rules()) == 11
    with pytest.raises(ValueError) as caught:
        PlantedConfig(num_plans=0, vocab_size=0, overlap=2)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["num_plans", "vocab_size", "overlap"]


def test_defaults():
    assert dataclasses.asdict(PlantedConfig()) == {
        "num_plans": 4,
        "vocab_size": 64,
        "chunk_size": 16,
        "chunk_offset": 1,
        "self_transition": 0.9,
        "overlap": 0.5,
        "concentration": 0.1,
        "table_seed": None,
        "train_tokens": 200_000,
        "val_tokens": 20_000,
    }


def test_it_is_frozen_and_every_field_has_its_sentence():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PlantedConfig().num_plans = 2
    source = inspect.getsource(PlantedConfig)
    for field in inspect.get_annotations(PlantedConfig):
        after = source.split(f"    {field}: ", 1)[1].splitlines()[1].strip()
        assert after.startswith('"'), field
        assert after.endswith('."'), field
