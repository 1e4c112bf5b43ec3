"""Incremental decoding: text as soon as its characters are complete."""

import codecs
from collections.abc import Sequence

from apelr_tokenizers.errors import TokenizerError, shown


class StreamDecoder:
    """Turns ids into text one at a time and never emits half a character.

    The pushed pieces and `finish()` together equal `decode` of the same ids, for every sequence.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """Decode with `pieces`: the UTF-8 bytes each id stands for, empty for special ids."""
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes, often empty. Raises TokenizerError for a bad id."""
        if not 0 <= token_id < len(self._pieces):
            raise TokenizerError(f"id must be in 0 .. {len(self._pieces) - 1}, got {shown(token_id)}")
        return self._decoder.decode(self._pieces[token_id])

    def finish(self) -> str:
        """Return what is still held back, as U+FFFD where it is no complete character, and start afresh."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
