"""BPE files: the `tokenizers` library's JSON, with our mark inside its `model`.

Only the settings listed here are accepted, so that a file means here what it means to the library, and
the crafted files that make the library panic are refused before it sees them.
"""

from typing import cast

from apelr_tokenizers.bpe_definition import NORMALIZERS, WORD_PATTERN, BpeDefinition
from apelr_tokenizers.document import (
    FORMAT_NAME,
    FORMAT_VERSION,
    JsonObject,
    check_format,
    check_token,
    names,
)
from apelr_tokenizers.errors import TokenizerError, shown

MARK = "apelr"
ROLES = ("<pad>", "<bos>", "<eos>", "<unk>")
MODEL_SETTINGS: dict[str, tuple[object, ...]] = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (False,),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}
BYTE_LEVEL: JsonObject = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPLIT: JsonObject = {"type": "Split", "pattern": {"Regex": WORD_PATTERN}, "behavior": "Isolated", "invert": False}


def document_of_definition(definition: BpeDefinition) -> JsonObject:
    """Return the file content of `definition` as JSON values."""
    special_tokens = [definition.tokens[index] for index in definition.special_ids]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": index, "content": definition.tokens[index], **flags} for index in sorted(definition.special_ids)]
    parts = [{"type": name} for name in definition.normalizers]
    model: JsonObject = {
        "type": "BPE",
        MARK: {"format": FORMAT_NAME, "version": FORMAT_VERSION, "special_tokens": special_tokens},
        "unk_token": special_tokens[3],
        **{setting: allowed[0] for setting, allowed in MODEL_SETTINGS.items()},
        "vocab": {token: index for index, token in enumerate(definition.tokens)},
        "merges": [list(pair) for pair in definition.merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": parts} if parts else None,
        "pre_tokenizer": BYTE_LEVEL if definition.byte_level else SPLIT,
        "post_processor": None,
        "decoder": BYTE_LEVEL if definition.byte_level else {"type": "Fuse"},
        "model": model,
    }


def definition_of_document(document: JsonObject) -> BpeDefinition:
    """Read a BPE file, ours or the library's. Raises TokenizerError naming the key that is wrong."""
    model = _object(document.get("model"), "model")
    mark = _object(model[MARK], f"model.{MARK}") if MARK in model else None
    if mark is not None:
        check_format(mark)
    _check_settings(document, model)
    tokens, added = _read_tokens(model.get("vocab"), document.get("added_tokens"))
    special_ids = _special_ids(tokens, added, mark)
    unknown = model.get("unk_token")
    if unknown is not None and unknown != tokens[special_ids[3]]:
        raise TokenizerError(f"model.unk_token must be {tokens[special_ids[3]]!r}, got {shown(unknown)}")
    return BpeDefinition(
        tokens=tokens,
        special_ids=special_ids,
        merges=_read_merges(model.get("merges")),
        byte_level=_read_byte_level(document),
        normalizers=_read_normalizers(document.get("normalizer")),
    )


def _check_settings(document: JsonObject, model: JsonObject) -> None:
    if document.get("version") != "1.0":
        raise TokenizerError(f"version must be '1.0', got {shown(document.get('version'))}")
    for key in ("truncation", "padding"):
        if document.get(key) is not None:
            raise TokenizerError(f"{key} must be null, got {shown(document[key])}")
    if model.get("type") != "BPE":
        raise TokenizerError(f"model.type must be 'BPE', got {shown(model.get('type'))}")
    for key, allowed in MODEL_SETTINGS.items():
        if key in model and model[key] not in allowed:
            raise TokenizerError(f"model.{key} must be {allowed[0]!r}, got {shown(model[key])}")


def _read_tokens(vocabulary: object, added: object) -> tuple[tuple[str, ...], list[str]]:
    """Return all tokens by id, and those of `added_tokens` in the order of their ids."""
    ids = dict(_object(vocabulary, "model.vocab"))
    added_ids: JsonObject = {}
    for entry in _list([] if added is None else added, "added_tokens"):
        token = _object(entry, "added_tokens")
        content = token.get("content")
        check_token(content, "added_tokens")
        content = cast(str, content)
        if token.get("special") is not True:
            raise TokenizerError(f"added_tokens must all be special, {shown(content)} is not")
        if content in added_ids:
            raise TokenizerError(f"added_tokens must be free of duplicates, got {shown(content)} twice")
        index = token.get("id")
        if type(index) is not int:
            raise TokenizerError(f"the id of {shown(content)} must be a whole number, got {shown(index)}")
        added_ids[content] = index
        if ids.setdefault(content, index) != index:
            raise TokenizerError(f"added_tokens and model.vocab disagree on the id of {shown(content)}")
    by_id: dict[int, str] = {}
    for name, number in ids.items():
        check_token(name, "model.vocab")
        if type(number) is not int or not 0 <= number < len(ids):
            raise TokenizerError(f"the id of {shown(name)} must be in 0 .. {len(ids) - 1}, got {shown(number)}")
        if number in by_id:
            raise TokenizerError(f"id {number} belongs to both {shown(by_id[number])} and {shown(name)}")
        by_id[number] = name
    tokens = tuple(by_id[index] for index in range(len(by_id)))
    return tokens, [token for token in tokens if token in added_ids] if added_ids else []


def _special_ids(tokens: tuple[str, ...], added: list[str], mark: JsonObject | None) -> tuple[int, ...]:
    """Return the ids of pad, bos, eos, unk and the other special tokens: by our mark, else by name."""
    roles = ROLES if mark is None else names(mark.get("special_tokens"), f"model.{MARK}.special_tokens")
    if len(roles) < len(ROLES):
        raise TokenizerError(f"model.{MARK}.special_tokens must name pad, bos, eos, unk, got {shown(roles)}")
    ids = {token: index for index, token in enumerate(tokens)}
    for role in roles:
        if role not in ids:
            raise TokenizerError(f"no {role if mark is None else shown(role)} token in the vocabulary")
    return tuple(ids[name] for name in (*roles, *(token for token in added if token not in roles)))


def _read_merges(value: object) -> tuple[tuple[str, str], ...]:
    merges: list[tuple[str, str]] = []
    for item in _list(value, "model.merges"):
        pair = item.split(" ") if isinstance(item, str) else item
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise TokenizerError(f"model.merges must hold pairs of tokens, got {shown(item)}")
        merges.append((pair[0], pair[1]))
    return tuple(merges)


def _read_byte_level(document: JsonObject) -> bool:
    """Return whether text is cut byte-level or in our character way, the only two there are."""
    cutting = document.get("pre_tokenizer")
    byte_level = isinstance(cutting, dict) and {**BYTE_LEVEL, **cutting, "trim_offsets": True} == BYTE_LEVEL
    if not byte_level and cutting != SPLIT:
        raise TokenizerError(
            f"pre_tokenizer must be ByteLevel without prefix space and with its regular expression,"
            f" got {shown(cutting)}"
        )
    for key, allowed in (("decoder", "ByteLevel" if byte_level else "Fuse"), ("post_processor", "ByteLevel")):
        value = document.get(key)
        if value is not None and not (isinstance(value, dict) and value.get("type") == allowed):
            raise TokenizerError(f"{key} must be null or {allowed}, got {shown(value)}")
    return byte_level


def _read_normalizers(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    section = _object(value, "normalizer")
    parts = _list(section.get("normalizers"), "normalizer") if section.get("type") == "Sequence" else [section]
    types = [_object(part, "normalizer").get("type") for part in parts]
    for name in types:
        if not (isinstance(name, str) and name in NORMALIZERS):
            raise TokenizerError(f"normalizer must be one of {', '.join(NORMALIZERS)}, got {shown(name)}")
    if len(set(types)) < len(types):
        raise TokenizerError("normalizer must be free of duplicates")
    return cast(tuple[str, ...], tuple(types))


def _object(value: object, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise TokenizerError(f"{where} must be an object, got {shown(value)}")
    return cast(JsonObject, value)


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise TokenizerError(f"{where} must be a list, got {shown(value)}")
    return cast(list[object], value)
