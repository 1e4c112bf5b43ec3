import ast
import dataclasses
import re
from itertools import pairwise
from pathlib import Path

import pytest

from apelr_tokenizers import TokenizerConfig
from apelr_tokenizers import config as config_module

FOUR = ("<pad>", "<bos>", "<eos>", "<unk>")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "word"}, "type must be one of char, bpe, identity, got 'word'"),
        (
            {"vocab_size": 259},
            "vocab_size must be >= 260 for byte-level BPE (256 bytes + 4 special tokens), got 259",
        ),
        (
            {"vocab_size": 260, "special_tokens": (*FOUR, "<sep>")},
            "vocab_size must be >= 261 for byte-level BPE (256 bytes + 5 special tokens), got 260",
        ),
        ({"vocab_size": 3, "type": "char"}, "vocab_size must be >= 5, got 3"),
        ({"vocab_size": 4, "byte_level": False}, "vocab_size must be >= 5, got 4"),
        ({"vocab_size": 1_000_001}, "vocab_size must be <= 1000000, got 1000001"),
        ({"min_frequency": 0}, "min_frequency must be >= 1, got 0"),
        ({"lowercase": True, "type": "char"}, "lowercase must be false when type is char, got True"),
        (
            {"special_tokens": ("<pad>", "<bos>", "<eos>")},
            "special_tokens must be at least 4 names: pad, bos, eos, unk, then any others,"
            " got ('<pad>', '<bos>', '<eos>')",
        ),
        (
            {"special_tokens": (*FOUR, "<bos>")},
            "special_tokens must be free of duplicates, got ('<pad>', '<bos>', '<eos>', '<unk>', '<bos>')",
        ),
        (
            {"special_tokens": (*FOUR, "")},
            "special_tokens must be names of 2 characters or more, got ('<pad>', '<bos>', '<eos>', '<unk>', '')",
        ),
        (
            {"special_tokens": (*FOUR, "a")},
            "special_tokens must be names of 2 characters or more, got ('<pad>', '<bos>', '<eos>', '<unk>', 'a')",
        ),
        (
            {"special_tokens": (*FOUR, "a\ud800")},
            "special_tokens must be free of lone surrogates, got ('<pad>', '<bos>', '<eos>', '<unk>', 'a\\ud800')",
        ),
        ({"normalizer": "nfx"}, "normalizer must be one of none, nfc, nfkc, nfd, nfkd, got 'nfx'"),
        ({"normalizer": "nfc", "type": "char"}, "normalizer must be none when type is char, got 'nfc'"),
        *[
            ({"type": "identity", name: value}, f"{name} must be {rule}, got {value!r}")
            for name, value, rule in [
                ("min_frequency", 1, "left at 2 when type is identity, which is not fitted"),
                ("byte_level", False, "left at true when type is identity, which is not fitted"),
                ("fit_max_chars", 10, "left at 50000000 when type is identity, which is not fitted"),
                ("lowercase", True, "false when type is identity"),
                ("normalizer", "nfc", "none when type is identity"),
                ("vocab_size", 4, ">= 5"),
            ]
        ],
        ({"fit_max_chars": 0}, "fit_max_chars must be >= 1, got 0"),
        ({"min_frequency": float("nan")}, "min_frequency must be >= 1, got nan"),
    ],
)
def test_a_broken_rule_is_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TokenizerConfig(**settings)  # type: ignore[arg-type]


def test_every_rule_has_its_message_tested() -> None:
    assert len(TokenizerConfig().rules()) == 15


def test_all_broken_rules_are_named_at_once() -> None:
    with pytest.raises(ValueError) as caught:
        TokenizerConfig(vocab_size=2, min_frequency=0, fit_max_chars=-1)
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == [
        "vocab_size",
        "min_frequency",
        "fit_max_chars",
    ]


def test_defaults_and_smallest_sizes_hold() -> None:
    assert TokenizerConfig() == TokenizerConfig(
        type="bpe",
        vocab_size=2048,
        min_frequency=2,
        byte_level=True,
        lowercase=False,
        special_tokens=FOUR,
        normalizer="none",
        fit_max_chars=50_000_000,
    )
    TokenizerConfig(vocab_size=260)
    TokenizerConfig(type="char", vocab_size=5)
    TokenizerConfig(type="identity", vocab_size=5)
    TokenizerConfig(byte_level=False, vocab_size=5)


def test_it_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TokenizerConfig().vocab_size = 300  # type: ignore[misc]
    with pytest.raises(TypeError):
        TokenizerConfig("char")  # type: ignore[misc]


def test_every_field_has_its_sentence() -> None:
    tree = ast.parse(Path(config_module.__file__).read_text(encoding="utf-8"))
    body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "TokenizerConfig").body
    for node, following in pairwise(body):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(following, ast.Expr), node.target
            assert isinstance(following.value, ast.Constant), node.target
