"""The package's one error type, and the checks and wording every module shares."""

import reprlib


class TokenizerError(ValueError):
    """A text, a file or a setting that a tokenizer cannot work with; the message is one line."""


def shown(value: object) -> str:
    """Return `value` as it appears in messages: its repr on one line, shortened when long or deep."""
    return reprlib.repr(value)


def require_scalar_values(text: str) -> None:
    """Raise TokenizerError when `text` holds a lone surrogate, which UTF-8 cannot express."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"text must hold only Unicode scalar values, got the lone surrogate"
            f" U+{ord(text[error.start]):04X} at position {error.start}; replace it with U+FFFD"
        ) from None
