"""JSON documents of tokenizer files: the format's mark, strict reading, readable writing."""

import json
from collections import Counter
from typing import cast

from apelr_tokenizers.errors import TokenizerError, shown

FORMAT_NAME = "apelr-tokenizer"
FORMAT_VERSION = 1

JsonObject = dict[str, object]


def parse_document(text: str) -> JsonObject:
    """Return the JSON object in `text`. Raises TokenizerError for anything else or a repeated key."""
    try:
        document = json.loads(text, object_pairs_hook=_object_without_repeats)
    except TokenizerError:
        raise
    except RecursionError:
        raise TokenizerError("not a tokenizer file: nested too deeply") from None
    except ValueError as error:
        raise TokenizerError(f"not a tokenizer file: not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise TokenizerError(f"not a tokenizer file: expected a JSON object, got {shown(document)}")
    return cast(JsonObject, document)


def write_document(document: JsonObject) -> str:
    """Return `document` as JSON text with one line per top-level key and a final newline."""
    lines = [f"  {_dump(key)}: {_dump(value)}" for key, value in document.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def check_format(mark: JsonObject) -> None:
    """Check the `format` and `version` of our own files. Raises TokenizerError, naming both versions."""
    if mark.get("format") != FORMAT_NAME:
        raise TokenizerError(f"format must be {FORMAT_NAME!r}, got {shown(mark.get('format'))}")
    version = mark.get("version")
    if type(version) is not int or version < 1:
        raise TokenizerError(f"version must be a whole number >= 1, got {shown(version)}")
    if version > FORMAT_VERSION:
        raise TokenizerError(
            f"version {version} of the tokenizer format is newer than {FORMAT_VERSION}, the newest this"
            f" package reads; update apelr-tokenizers"
        )


def special_names(document: JsonObject) -> tuple[str, ...]:
    """Return the names of the special tokens in one of our own files. Raises TokenizerError for wrong ones."""
    special_tokens = names(document.get("special_tokens"), "special_tokens")
    if len(special_tokens) < 4:
        raise TokenizerError(f"special_tokens must name pad, bos, eos, unk, got {shown(special_tokens)}")
    for token in special_tokens:
        if len(token) < 2:
            raise TokenizerError(f"special_tokens must have 2 characters or more, got {shown(token)}")
    return special_tokens


def names(value: object, where: str) -> tuple[str, ...]:
    """Return `value` as a tuple of distinct non-empty strings. Raises TokenizerError naming `where`."""
    if not isinstance(value, list):
        raise TokenizerError(f"{where} must be a list of strings, got {shown(value)}")
    for item in value:
        check_token(item, where)
    if len(set(value)) < len(value):
        raise TokenizerError(f"{where} must be free of duplicates, got {shown(_repeated(value))} twice")
    return tuple(value)


def check_token(token: object, where: str) -> None:
    """Raise TokenizerError, naming `where`, unless `token` is a non-empty string of scalar values."""
    if not isinstance(token, str) or not token:
        raise TokenizerError(f"{where} must hold only non-empty strings, got {shown(token)}")
    if any("\ud800" <= character <= "\udfff" for character in token):
        raise TokenizerError(f"{where} must be free of lone surrogates, got {shown(token)}")


def _object_without_repeats(pairs: list[tuple[str, object]]) -> JsonObject:
    result = dict(pairs)
    if len(result) < len(pairs):
        repeated = _repeated([key for key, _ in pairs])
        raise TokenizerError(f"not a tokenizer file: the key {shown(repeated)} is given twice")
    return result


def _repeated(items: list[str]) -> str:
    return next(item for item, count in Counter(items).items() if count > 1)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
