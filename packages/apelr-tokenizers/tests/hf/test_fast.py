"""The same ids and the same text in transformers, for every kind of tokenizer and odd text; BOS comes first."""

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_tokenizers import TokenizerConfig, TokenizerError, fit_tokenizer

pytest.importorskip("transformers", reason="the extra apelr-tokenizers[transformers] is not installed")

from transformers import AutoTokenizer

from apelr_tokenizers.hf import fast_tokenizer

NAMES = ("PAD", "BOS", "it", "the", "<extra>")
TEXTS = [
    "Ada found a kite. The kite was red, and Ada was glad.\n",
    "Ben lost the map in the rain… The café is near <bos> the <unk> boat. " * 3,
    "Ünïcödé, ελληνικά, 日本語 and 😀 come twice: Ünïcödé, ελληνικά, 日本語 and 😀.\r\n",
]
ODD = [
    *("", " ", "a", "  a  b ", "\0\x01", "\r\n\n\n", "\ufeffthe", "a\u200bb", "\u00a0x\u3000y", "e\u0301 \u00e9"),
    *("<bos>", "<bos> the <eos><pad>", "the<unk>cat", "it the PAD BOS<extra>", "<", "<bos", "bos>", "<s></s>[CLS]"),
    *("日本語テキスト", "😀👩‍👩‍👧", "İstanbul ǅ ﬁ ½ ①", "don't we'll I'M", "12345 6.7e8", "﷽", "a" * 500, "Ⅷ ẞ"),
]
KINDS = {
    "char": {"type": "char"},
    "char, own names": {"type": "char", "special_tokens": NAMES},
    "bpe": {},
    "bpe, own names": {"special_tokens": NAMES},
    "bpe, few": {"vocab_size": 270},
    "bpe, lowercase": {"lowercase": True},
    "bpe, nfkc": {"normalizer": "nfkc"},
    "bpe, nfkd lowercase": {"normalizer": "nfkd", "lowercase": True},
    "bpe, characters": {"byte_level": False},
    "bpe, characters, own names": {"byte_level": False, "special_tokens": NAMES, "vocab_size": 40},
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """A tokenizer of ours, and what transformers loads of it after saving."""
    config = TokenizerConfig(**{"min_frequency": 1, "vocab_size": 400, **KINDS[request.param]})
    own = fit_tokenizer(config, TEXTS)
    folder = tmp_path_factory.mktemp("saved")
    fast_tokenizer(own).save_pretrained(folder)
    return own, AutoTokenizer.from_pretrained(folder)


def same(pair, text):
    own, fast = pair
    ids = own.encode(text).ids
    assert fast(text)["input_ids"] == [own.bos_id, *ids]
    assert fast(text, add_special_tokens=False)["input_ids"] == ids
    assert fast.decode([own.bos_id, *ids, own.eos_id], skip_special_tokens=True) == own.decode(ids)


def test_ids_and_text_are_ours_for_odd_text(pair):
    for text in [*TEXTS, *ODD]:
        same(pair, text)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(text=st.text(max_size=30) | st.lists(st.sampled_from([*ODD, *NAMES]), max_size=4).map("".join))
def test_ids_and_text_are_ours_for_any_text(pair, text):
    same(pair, text)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(numbers=st.lists(st.integers(0, 10**6), max_size=12))
def test_any_ids_decode_as_ours_do(pair, numbers):
    own, fast = pair
    ids = [number % own.vocab_size for number in numbers]
    assert fast.decode(ids, skip_special_tokens=True) == own.decode(ids)


def test_it_knows_the_special_ids_and_pads_at_the_left(pair):
    own, fast = pair
    assert len(fast) == own.vocab_size
    roles = (fast.pad_token_id, fast.bos_token_id, fast.eos_token_id, fast.unk_token_id)
    assert roles == (own.pad_id, own.bos_id, own.eos_id, own.unk_id)
    batch = fast(["a kite", "a"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    short = [own.bos_id, *own.encode("a").ids]
    pads = len(batch["input_ids"][0]) - len(short)
    assert batch["input_ids"][1] == [own.pad_id] * pads + short
    assert batch["attention_mask"][1] == [0] * pads + [1] * len(short)


def test_a_tokenizer_of_numbers_has_no_form_there():
    own = fit_tokenizer(TokenizerConfig(type="identity", vocab_size=9), [])
    with pytest.raises(TokenizerError, match=r"^transformers has no form of a IdentityTokenizer"):
        fast_tokenizer(own)


def test_without_the_extra_one_line_says_what_to_install():
    program = """
        import importlib.util as util
        found = util.find_spec
        util.find_spec = lambda name, *rest: None if name == "transformers" else found(name, *rest)
        try:
            import apelr_tokenizers.hf
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "apelr_tokenizers.hf needs transformers; install it with: pip install 'apelr-tokenizers[transformers]'\n"
    )
