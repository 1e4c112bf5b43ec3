"""The name that a misspelt one was probably meant to be."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest_name"]


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None when nothing is close.

    In this order: the same name in other case or with hyphens, the initials of `name` (`learning_rate`: `lr`),
    a name that begins with it (`batch`: `batch_size`), the best match of letters.
    """
    by_plain_form = {_plain(candidate): candidate for candidate in known}
    plain = _plain(name)
    initials = "".join(word[0] for word in plain.split("_") if word)
    for form in (plain, initials):
        if len(form) > 1 and form in by_plain_form:
            return by_plain_form[form]
    longer = [form for form in by_plain_form if form.startswith(f"{plain}_")]
    close = longer or difflib.get_close_matches(plain, by_plain_form, n=1, cutoff=0.7)
    return by_plain_form[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known name, or nothing."""
    near = nearest_name(name, known)
    return f"; did you mean {near}?" if near is not None else ""


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
