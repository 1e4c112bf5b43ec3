"""Fixtures that all test files share: every kind of tokenizer, and the prototype's file forms."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from apelr_tokenizers import Tokenizer, TokenizerConfig, fit_tokenizer, tokenizer_from_text

TEXTS = [
    "Ada found a kite. The kite was red, and Ada was glad.\n",
    "Ben lost the map in the rain… The café is near <bos> the <unk> boat. " * 3,
    "Ünïcödé, ελληνικά, 日本語 and 😀 come twice: Ünïcödé, ελληνικά, 日本語 and 😀.\r\n",
    "PAD PAD PAD PAD BOS extra <pad><bos> 12 345 'quoted' it's\tdone",
]
OTHER_NAMES = ("PAD", "BOS", "it", "Ada", "<extra>")


def fitted(**settings: Any) -> Callable[[], Tokenizer]:
    """Return a factory that fits on TEXTS."""
    return lambda: fit_tokenizer(TokenizerConfig(**{"min_frequency": 1, "vocab_size": 400, **settings}), TEXTS)


def prototype_char_file() -> str:
    """Return the prototype's character file for the characters of the first text."""
    itos = ["<pad>", "<bos>", "<eos>", "<unk>", *sorted(set(TEXTS[0]))]
    return json.dumps({"itos": itos}, ensure_ascii=False, indent=2)


def prototype_bpe_file() -> str:
    """Return a BPE file as the prototype made it: byte-level, NFKC, knowing only the bytes it has seen."""
    library = LibraryTokenizer(models.BPE(unk_token="<unk>"))
    library.normalizer = normalizers.Sequence([normalizers.NFKC()])
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    library.train_from_iterator([*TEXTS[:1], "café"], trainer=trainer)
    return library.to_str(pretty=True)


# One line per kind: a factory, and a text that it does not give back (None: it gives back every text).
KINDS: dict[str, tuple[Callable[[], Tokenizer], str | None]] = {
    "char": (fitted(type="char"), "\0"),
    "char-own-names": (fitted(type="char", special_tokens=OTHER_NAMES), "\0"),
    "char-prototype": (lambda: tokenizer_from_text(prototype_char_file()), "z"),
    "identity": (fitted(type="identity", min_frequency=2), "a"),
    "identity-own-names": (fitted(type="identity", min_frequency=2, special_tokens=OTHER_NAMES), "07"),
    "bpe": (fitted(), None),
    "bpe-own-names": (fitted(special_tokens=OTHER_NAMES), None),
    "bpe-smallest": (fitted(vocab_size=260), None),
    "bpe-lowercase": (fitted(lowercase=True), "A"),
    "bpe-nfc": (fitted(normalizer="nfc"), "e\u0301"),
    "bpe-nfkc": (fitted(normalizer="nfkc"), "…"),
    "bpe-nfd": (fitted(normalizer="nfd"), "é"),
    "bpe-nfkd-lowercase": (fitted(normalizer="nfkd", lowercase=True), "Ⅷ"),
    "bpe-prototype": (lambda: tokenizer_from_text(prototype_bpe_file()), "z"),
    "bpe-characters": (fitted(byte_level=False), "\0"),
    "bpe-characters-own-names": (fitted(byte_level=False, special_tokens=OTHER_NAMES), "\0"),
    "bpe-characters-few": (fitted(byte_level=False, vocab_size=30), "\0"),
    "bpe-characters-nfkd": (fitted(byte_level=False, normalizer="nfkd", lowercase=True), "é"),
}


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return list(TEXTS)


@pytest.fixture(scope="session")
def prototype_char() -> str:
    return prototype_char_file()


@pytest.fixture(scope="session")
def prototype_bpe() -> str:
    return prototype_bpe_file()


@pytest.fixture(scope="session")
def other_names() -> tuple[str, ...]:
    return OTHER_NAMES


@pytest.fixture(scope="session")
def kinds() -> dict[str, Tokenizer]:
    return {name: make() for name, (make, _) in KINDS.items()}


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def tokenizer(kind: str, kinds: dict[str, Tokenizer]) -> Tokenizer:
    return kinds[kind]


@pytest.fixture(scope="session")
def lost_text(kind: str) -> str | None:
    return KINDS[kind][1]


@pytest.fixture(scope="session", params=[name for name in KINDS if name.startswith("bpe")])
def bpe_kind(request: pytest.FixtureRequest, kinds: dict[str, Tokenizer]) -> Tokenizer:
    return kinds[request.param]
