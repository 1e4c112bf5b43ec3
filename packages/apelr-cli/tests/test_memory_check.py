"""Text too large for memory is refused before it is read; what may be too large is warned of."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from apelr_cli.evaluation_text import _split_stream
from apelr_cli.memory_check import check_text_fits_memory
from apelr_cli.prepared_text import prepare_text
from apelr_cli.run_config import RunConfig
from apelr_data import DataConfig, DataError, MixedSource
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

SET = ("--set", "data.source=c4_en", "--set", "data.max_train_examples=null")
MIXED = {"sources": (MixedSource(source="c4_en"), MixedSource(source="fineweb"))}


def said(**keys: object) -> list[str]:
    lines: list[str] = []
    check_text_fits_memory(DataConfig(**keys), lines.append)
    return lines


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"source": "c4_en"}, "data.source c4_en: about 829 GB"),
        ({"source": "wiki40b_en", "max_val_tokens": 9}, "data.source wiki40b_en: about 10 GB"),
        (MIXED, "data.source c4_en + fineweb: about 40 GB"),
    ],
)
def test_a_large_stream_needs_a_cap_or_the_cache(keys: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        said(**keys)
    assert str(caught.value) == (
        f"{message} of text would be read into memory; set data.token_cache true, or data.max_train_tokens"
    )
    with pytest.raises(DataError, match="would be read into memory"):
        prepare_text(DataConfig(**keys), TokenizerConfig(), seed=0)
    caps = ("max_train_examples", "max_train_chars", "max_train_tokens")
    for enough in ({"token_cache": True}, *({cap: 5} for cap in caps)):
        assert said(**keys, **enough) == []


def test_a_dry_run_and_an_evaluation_refuse_it_too(apelr: Callable[..., Result], tmp_path: Path) -> None:
    result = apelr("train", "--config", "quickstart", "--out", tmp_path / "run", "--dry-run", *SET)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: data.source c4_en: about 829 GB of text would be read into memory; ")
    config = RunConfig(data=DataConfig(source="c4_en"))
    with pytest.raises(DataError, match="would be read into memory"):
        _split_stream(config, fit_tokenizer(TokenizerConfig(type="char", min_frequency=1), ["a"]), "train", print)


@pytest.mark.parametrize(
    "keys",
    [
        {"source": "storyworld"},
        {"source": "tinystories"},
        {"source": "c4_en", "streaming": False},
        {"sources": (MixedSource(source="c4_en"), MixedSource(source="tinystories"))},
        {"sources": (MixedSource(source="hf", path="owner/name"), MixedSource(source="python_docs"))},
    ],
)
def test_what_ends_soon_or_was_downloaded_is_read(keys: dict) -> None:
    assert said(**keys) == []


def test_a_stream_of_unknown_size_is_warned_of_unless_it_lies_here(tmp_path: Path) -> None:
    assert said(source="hf", path="owner/name") == [
        "warning: all of hf is read into memory; set data.token_cache true or data.max_train_tokens if large"
    ]
    assert said(source="hf", path=str(tmp_path)) == []
    assert said(source="hf", path="owner/name", max_train_examples=3) == []
