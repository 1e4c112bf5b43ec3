"""Which bytes and characters of the original text stand behind which id."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from apelr_tokenizers.protocol import Encoding


def account_by_sizes(text: str, ids: list[int], sizes: Sequence[int], unk_id: int, byte_level: bool) -> Encoding:
    """Account for ids whose pieces, one after the other, are `text` itself.

    `sizes` holds the bytes of each id's piece, with 1 for UNK: an unknown byte, or an unknown ASCII
    character. Where UNK is any other character its real size is looked up in the text.
    """
    counts = list(map(sizes.__getitem__, ids))
    unknown = ids.count(unk_id)
    if unknown and not text.isascii():
        data = text.encode("utf-8")
        if byte_level:
            unknown = _characters_with_unknown_bytes(data, ids, counts, unk_id)
        else:
            _set_unknown_sizes(data, ids, counts, unk_id)
    return Encoding(ids, counts, unknown)


def account_by_offsets(text: str, ids: list[int], offsets: Sequence[tuple[int, int]], unk_id: int) -> Encoding:
    """Account for ids of a normalized text by their character ranges `offsets` in the original `text`.

    Each id gets the characters from where the ids before it ended to its own end: the first of several
    ids that share a character gets all its bytes, and what normalization dropped goes to the next id,
    or to the last.
    """
    if not ids:
        assert not text, "a text that is not empty gives at least one id"
        return Encoding(ids, [], 0)
    ends = list(accumulate((end for _, end in offsets), max))
    ends[-1] = len(text)
    counts = [len(text[start:end].encode("utf-8")) for start, end in pairwise([0, *ends])]
    unknown = covered = 0
    if unk_id in ids:
        for token_id, (start, end) in zip(ids, offsets, strict=True):
            if token_id == unk_id:
                unknown += max(0, end - max(start, covered))
                covered = max(covered, end)
    return Encoding(ids, counts, unknown)


def _characters_with_unknown_bytes(data: bytes, ids: list[int], counts: list[int], unk_id: int) -> int:
    """Count the characters of `data` (UTF-8) that have at least one unknown byte."""
    starts = set()
    for token_id, start in zip(ids, accumulate(counts, initial=0), strict=False):
        if token_id == unk_id:
            while data[start] & 0xC0 == 0x80:
                start -= 1
            starts.add(start)
    return len(starts)


def _set_unknown_sizes(data: bytes, ids: list[int], counts: list[int], unk_id: int) -> None:
    """Set the count of each UNK to the size of the character of `data` (UTF-8) where it stands."""
    position = 0
    for index, token_id in enumerate(ids):
        if token_id == unk_id:
            lead = data[position]
            counts[index] = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        position += counts[index]
