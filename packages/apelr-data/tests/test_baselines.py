"""Compressors as a yardstick."""

import gzip
import lzma
import random

import pytest

from apelr_data import DataError, compression_baselines
from apelr_data.baselines import PRIMING_LIMIT

WORDS = ("the", "old", "bridge", "over", "a", "river", "was", "closed", "in", "winter", "ice", "had", "broken")


def prose(seed, words):
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words)).encode()


def letters(seed, count):
    draw = random.Random(seed)
    return "".join(draw.choice("abcdefghijklmnop") for _ in range(count)).encode()


def test_the_numbers_are_those_of_the_command_line_tools():
    val = prose(1, 5000)
    baselines = compression_baselines(b"", val)
    assert list(baselines) == ["gzip_9", "xz_9e", "xz_9e_primed"]
    assert baselines["gzip_9"] == 8 * len(gzip.compress(val, 9)) / len(val)
    assert baselines["xz_9e"] == 8 * len(lzma.compress(val, preset=9 | lzma.PRESET_EXTREME)) / len(val)


def test_priming_reaches_back_over_all_of_the_training_text():
    val = letters(2, 2000)
    baselines = compression_baselines(val + letters(3, 300_000), val)
    assert baselines["xz_9e"] > 4
    assert baselines["xz_9e_primed"] < 0.5


def test_priming_with_strange_text_neither_helps_nor_hurts_much():
    val = prose(4, 5000)
    baselines = compression_baselines(random.Random(5).randbytes(10_000), val)
    assert baselines["xz_9e_primed"] == pytest.approx(baselines["xz_9e"], rel=0.05)


def test_only_the_end_of_a_very_long_training_text_primes(monkeypatch):
    assert PRIMING_LIMIT == 16 * 2**20
    monkeypatch.setattr("apelr_data.baselines.PRIMING_LIMIT", 10_000)
    val, filler = letters(6, 1000), letters(7, 10_000)
    assert compression_baselines(val + filler, val)["xz_9e_primed"] > 4
    assert compression_baselines(filler + val, val)["xz_9e_primed"] < 1


def test_an_empty_validation_text_is_refused():
    with pytest.raises(DataError, match="need validation text"):
        compression_baselines(b"text", b"")
