"""Reading BPE files: what is accepted, and that everything else is one clear line."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from apelr_tokenizers import Tokenizer, TokenizerError, tokenizer_from_text

Content = dict[str, Any]


def without_mark(content: Content) -> None:
    del content["model"]["apelr"]


def vocab(content: Content) -> dict[str, Any]:
    return content["model"]["vocab"]  # type: ignore[no-any-return]


def rename(content: Content, old: str, new: str) -> None:
    without_mark(content)
    vocab(content)[new] = vocab(content).pop(old)
    content["added_tokens"] = []
    content["model"]["unk_token"] = None


def merge_beyond_the_longest_token(content: Content) -> None:
    longest = max(vocab(content), key=len)
    content["model"]["merges"].append([longest, longest])


def set_(*path: Any) -> Callable[[Content], None]:
    *keys, value = path

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


CHANGES: dict[str, tuple[Callable[[Content], Any], str]] = {
    # The six crafted files on which the library panics: five by a setting, one by its merges.
    "panic-truncation": (
        set_("truncation", {"max_length": 2, "stride": 5, "strategy": "LongestFirst", "direction": "Right"}),
        "truncation must be null, got {'direction': 'Right', 'max_length': 2, ",
    ),
    "panic-template": (
        set_("post_processor", {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
        "post_processor must be null or ByteLevel, got",
    ),
    "panic-merge": (
        merge_beyond_the_longest_token,
        "merges must join two ordinary tokens to an ordinary token, got (",
    ),
    "panic-strip": (
        set_("decoder", {"type": "Strip", "content": "a", "start": 9, "stop": 9}),
        "decoder must be null or ByteLevel, got {'content': 'a', 'start': 9, 'stop': 9, 'type': 'Strip'}",
    ),
    "panic-fixed-length": (
        set_("pre_tokenizer", {"type": "FixedLength", "length": 0}),
        "pre_tokenizer must be ByteLevel without prefix space and with its regular expression, got",
    ),
    "panic-precompiled": (
        set_("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "normalizer must be one of NFC, NFKC, NFD, NFKD, Lowercase, got 'Precompiled'",
    ),
    "version": (set_("version", "2.0"), "version must be '1.0', got '2.0'"),
    "padding": (set_("padding", {}), "padding must be null, got {}"),
    "no-model": (set_("model", None), "model must be an object, got None"),
    "model-type": (set_("model", "type", "WordPiece"), "model.type must be 'BPE', got 'WordPiece'"),
    "dropout": (set_("model", "dropout", 0.5), "model.dropout must be None, got 0.5"),
    "prefix": (
        set_("model", "continuing_subword_prefix", "##"),
        "model.continuing_subword_prefix must be None, got '##'",
    ),
    "suffix": (set_("model", "end_of_word_suffix", "</w>"), "model.end_of_word_suffix must be None, got '</w>'"),
    "fuse": (set_("model", "fuse_unk", True), "model.fuse_unk must be False, got True"),
    "fallback": (set_("model", "byte_fallback", True), "model.byte_fallback must be False, got True"),
    "ignore": (set_("model", "ignore_merges", True), "model.ignore_merges must be False, got True"),
    "unk": (set_("model", "unk_token", "a"), "model.unk_token must be '<unk>', got 'a'"),
    "vocab": (set_("model", "vocab", []), "model.vocab must be an object, got []"),
    "merges": (set_("model", "merges", {}), "model.merges must be a list, got {}"),
    "merge-three": (
        set_("model", "merges", [["a", "b", "c"]]),
        "model.merges must hold pairs of tokens, got ['a', 'b', 'c']",
    ),
    "merge-text": (set_("model", "merges", ["ab"]), "model.merges must hold pairs of tokens, got 'ab'"),
    "merge-number": (set_("model", "merges", [[1, 2]]), "model.merges must hold pairs of tokens, got [1, 2]"),
    "merge-twice": (
        lambda content: content["model"]["merges"].extend(content["model"]["merges"][:1]),
        "merges must be free of duplicates",
    ),
    "merge-special": (
        lambda content: content["model"]["merges"].append(["<", "pad>"]),
        "merges must join two ordinary tokens to an ordinary token, got ('<', 'pad>')",
    ),
    "id-text": (lambda content: vocab(content).update(a="7"), "the id of 'a' must be in 0 .. "),
    "id-bool": (lambda content: vocab(content).update(a=True), "the id of 'a' must be in 0 .. "),
    "id-negative": (lambda content: vocab(content).update(a=-1), "the id of 'a' must be in 0 .. "),
    "id-large": (lambda content: vocab(content).update(a=2**70), "the id of 'a' must be in 0 .. "),
    "id-hole": (lambda content: vocab(content).pop("a"), "the id of "),
    "id-twice": (lambda content: vocab(content).update(a=vocab(content)["b"]), "id "),
    "token-empty": (
        lambda content: vocab(content).update({"": len(vocab(content))}),
        "model.vocab must hold only non-empty strings, got ''",
    ),
    "token-surrogate": (
        lambda content: vocab(content).update({"\ud800": len(vocab(content))}),
        "model.vocab must be free of lone surrogates, got '\\ud800'",
    ),
    "token-symbols": (
        lambda content: vocab(content).update({"a b": len(vocab(content))}),
        "byte-level tokens must be made of byte symbols, got 'a b'",
    ),
    "added-list": (set_("added_tokens", {}), "added_tokens must be a list, got {}"),
    "added-object": (set_("added_tokens", [3]), "added_tokens must be an object, got 3"),
    "added-content": (
        set_("added_tokens", 0, "content", 5),
        "added_tokens must hold only non-empty strings, got 5",
    ),
    "added-ordinary": (
        set_("added_tokens", 0, "special", False),
        "added_tokens must all be special, '<pad>' is not",
    ),
    "added-id": (
        set_("added_tokens", 0, "id", 9),
        "added_tokens and model.vocab disagree on the id of '<pad>'",
    ),
    "added-id-text": (
        set_("added_tokens", 0, "id", "0"),
        "the id of '<pad>' must be a whole number, got '0'",
    ),
    "added-twice": (
        lambda content: content["added_tokens"].append(content["added_tokens"][0]),
        "added_tokens must be free of duplicates, got '<pad>' twice",
    ),
    "special-short": (
        lambda content: content["added_tokens"].append({"id": vocab(content)["a"], "content": "a", "special": True}),
        "special tokens must have 2 characters or more, got 'a'",
    ),
    "mark": (set_("model", "apelr", 1), "model.apelr must be an object, got 1"),
    "mark-format": (set_("model", "apelr", "format", "x"), "format must be 'apelr-tokenizer', got 'x'"),
    "mark-newer": (
        set_("model", "apelr", "version", 7),
        "version 7 of the tokenizer format is newer than 1, the newest this package reads; update apelr-tokenizers",
    ),
    "mark-few": (
        set_("model", "apelr", "special_tokens", ["<pad>"]),
        "model.apelr.special_tokens must name pad, bos, eos, unk, got ('<pad>',)",
    ),
    "mark-unknown": (
        set_("model", "apelr", "special_tokens", ["<pad>", "<bos>", "<eos>", "<what>"]),
        "no '<what>' token in the vocabulary",
    ),
    "no-pad": (lambda content: rename(content, "<pad>", "[P]"), "no <pad> token in the vocabulary"),
    "no-bos": (lambda content: rename(content, "<bos>", "[B]"), "no <bos> token in the vocabulary"),
    "no-eos": (lambda content: rename(content, "<eos>", "[E]"), "no <eos> token in the vocabulary"),
    "no-unk": (lambda content: rename(content, "<unk>", "[U]"), "no <unk> token in the vocabulary"),
    "prefix-space": (
        set_("pre_tokenizer", "add_prefix_space", True),
        "pre_tokenizer must be ByteLevel without prefix space and with its regular expression, got",
    ),
    "no-pre-tokenizer": (
        set_("pre_tokenizer", None),
        "pre_tokenizer must be ByteLevel without prefix space and with its regular expression, got None",
    ),
    "normalizer-text": (set_("normalizer", "NFC"), "normalizer must be an object, got 'NFC'"),
    "normalizer-list": (set_("normalizer", {"type": "Sequence"}), "normalizer must be a list, got None"),
    "normalizer-twice": (
        set_("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 2}),
        "normalizer must be free of duplicates",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_refused_in_one_line(name: str, kinds: dict[str, Tokenizer]) -> None:
    change, message = CHANGES[name]
    content = json.loads(kinds["bpe"].to_text())
    change(content)
    with pytest.raises(TokenizerError) as caught:
        tokenizer_from_text(json.dumps(content))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        without_mark,
        set_("model", "unk_token", None),
        set_("added_tokens", []),
        set_("added_tokens", None),
        set_("decoder", None),
        set_("post_processor", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}),
        set_("pre_tokenizer", "trim_offsets", False),
        set_("model", "dropout", 0.0),
        set_("model", "end_of_word_suffix", ""),
        lambda content: content["model"].update(merges=[" ".join(pair) for pair in content["model"]["merges"]]),
        lambda content: content["model"].pop("ignore_merges"),
        lambda content: [vocab(content).pop(token) for token in ("<pad>", "<bos>", "<eos>", "<unk>")],
    ],
)
def test_harmless_differences_give_the_same_tokenizer(
    change: Callable[[Content], Any], kinds: dict[str, Tokenizer]
) -> None:
    content = json.loads(kinds["bpe"].to_text())
    change(content)
    assert tokenizer_from_text(json.dumps(content)).fingerprint == kinds["bpe"].fingerprint


def test_one_normalizer_needs_no_sequence(kinds: dict[str, Tokenizer]) -> None:
    content = json.loads(kinds["bpe-nfc"].to_text())
    content["normalizer"] = {"type": "NFC"}
    assert tokenizer_from_text(json.dumps(content)).fingerprint == kinds["bpe-nfc"].fingerprint


def test_roles_are_found_by_name_at_any_id(prototype_bpe: str) -> None:
    content = json.loads(prototype_bpe)
    last = next(token for token, index in vocab(content).items() if index == len(vocab(content)) - 1)
    content["model"]["merges"] = []
    vocab(content).update({"<bos>": len(vocab(content)) - 1, last: 1})
    content["added_tokens"] = []
    tokenizer = tokenizer_from_text(json.dumps(content))
    assert (tokenizer.pad_id, tokenizer.bos_id) == (0, tokenizer.vocab_size - 1)
    assert tokenizer.decode([tokenizer.bos_id]) == ""


def test_our_file_carries_format_version_and_roles(kinds: dict[str, Tokenizer], other_names: tuple[str, ...]) -> None:
    mark = json.loads(kinds["bpe-own-names"].to_text())["model"]["apelr"]
    assert mark == {"format": "apelr-tokenizer", "version": 1, "special_tokens": list(other_names)}


@pytest.mark.parametrize(
    "change",
    [
        set_("normalizer", {"type": "Lowercase"}),
        lambda content: content["model"]["merges"].pop(),
        lambda content: content["model"]["merges"].reverse(),
        lambda content: vocab(content).update(a=vocab(content)["b"], b=vocab(content)["a"]),
        lambda content: vocab(content).update({"ab" * 9: len(vocab(content))}),
        set_("model", "apelr", "special_tokens", ["<bos>", "<pad>", "<eos>", "<unk>"]),
    ],
)
def test_whatever_changes_ids_or_text_changes_the_fingerprint(
    change: Callable[[Content], Any], kinds: dict[str, Tokenizer]
) -> None:
    content = json.loads(kinds["bpe"].to_text())
    change(content)
    assert tokenizer_from_text(json.dumps(content)).fingerprint != kinds["bpe"].fingerprint


def test_a_giant_vocabulary_is_refused(kinds: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apelr_tokenizers.bpe_definition.LARGEST_VOCABULARY", 5)
    with pytest.raises(TokenizerError, match=r"^a vocabulary must be <= 5 ids, got \d+$"):
        tokenizer_from_text(kinds["bpe"].to_text())
