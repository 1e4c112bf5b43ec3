"""Text to ids: the cache changes where they lie and nothing else."""

from pathlib import Path

import pytest

from apelr_cli.prepared_text import prepare_text
from apelr_data import DataConfig
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

WORDS = "the plan is to write a small text that has some lines\n" * 30
CHAR = TokenizerConfig(type="char", min_frequency=1)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, object]:
    """The keys of a small text with a cache of its own."""
    (tmp_path / "text.txt").write_text(WORDS, encoding="utf-8")
    return {"source": "text", "path": str(tmp_path / "text.txt"), "token_cache_dir": str(tmp_path / "cache")}


@pytest.mark.parametrize("caps", [{}, {"max_train_tokens": 70, "max_val_chars": 20}])
def test_with_a_cache_or_without_the_ids_are_the_same(data: dict, caps: dict) -> None:
    said: list[str] = []
    memory = prepare_text(DataConfig(**data, **caps), CHAR, seed=0)
    for number in range(2):
        cached = prepare_text(DataConfig(**data, **caps, token_cache=True), CHAR, seed=0, say=said.append)
        assert len(said) == 2  # the second time there is nothing to be done
        assert cached.cache is not None
        assert cached.cache.parent == Path(str(data["token_cache_dir"]))
        assert cached.tokenizer.fingerprint == memory.tokenizer.fingerprint
        assert cached.reports == memory.reports, number
        for split in ("train", "validation"):
            ours, theirs = cached.streams[split], memory.streams[split]
            assert ours.ids[:].tolist() == theirs.ids[:].tolist()
            assert ours.byte_counts[:].tolist() == theirs.byte_counts[:].tolist()
            assert ours.sha256 == theirs.sha256
    assert memory.cache is None


@pytest.mark.parametrize("token_cache", [False, True])
def test_a_given_tokenizer_is_used(data: dict, token_cache: bool) -> None:
    tokenizer = fit_tokenizer(CHAR, ["the plan"])
    text = prepare_text(DataConfig(**data, token_cache=token_cache), CHAR, seed=0, tokenizer=tokenizer)
    assert text.tokenizer is tokenizer
    assert text.streams["train"].unknown > 0


def test_without_the_cache_nothing_is_written(data: dict) -> None:
    prepare_text(DataConfig(**data), CHAR, seed=0)
    assert not Path(str(data["token_cache_dir"])).exists()
