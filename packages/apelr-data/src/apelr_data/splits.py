"""Which documents are held out: by a hash of the text for rows, by position for one long text."""

import hashlib
from collections.abc import Iterable


def text_hash(text: str) -> int:
    """A number of 64 bits that depends on the text alone: not on order, process or machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def hash_limit(val_fraction: float) -> float:
    """The number that the hash of a held-out text lies below; a larger fraction holds out the same texts and more."""
    return val_fraction * 2**64


def lowest_hash_limit(hashes: Iterable[int], val_fraction: float) -> float:
    """`hash_limit`, unless no hash lies below it: then the limit that only the lowest hash lies below.

    Reads no further than the first hash below `hash_limit`. Where all hashes are equal, none lies below the result.
    """
    limit, lowest, highest = hash_limit(val_fraction), 2**64, -1
    for value in hashes:
        if value < limit:
            return limit
        lowest, highest = min(lowest, value), max(highest, value)
    return lowest + 1 if lowest < highest else limit


def cut_tail(text: str, val_fraction: float) -> tuple[str, str]:
    """Split one text into (train, validation), the validation part being about its last `val_fraction`.

    The cut is after the last line end before the wanted place, or, where that would hold out more than half of
    the text and twice what is wanted, after the first line end behind it. A text without such a line end is cut
    after a space, and one without spaces between any two characters. White space at the end of the text is not
    counted in the fraction. A text of one character is all train.
    """
    used = len(text.rstrip())
    wanted = min(max(1, round(used * (1 - val_fraction))), used - 1)
    if wanted < 1:
        return text, ""
    most_held_out = max(used // 2, 2 * (used - wanted))
    for mark in ("\n", "\r", " "):
        for cut in (text.rfind(mark, 0, wanted) + 1, text.find(mark, wanted, used) + 1):
            if cut > 0 and used - cut <= most_held_out and not text[:cut].isspace():
                return text[:cut], text[cut:]
    return text[:wanted], text[wanted:]
