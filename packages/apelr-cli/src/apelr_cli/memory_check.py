"""Whether a text is too much to be held in memory, as far as that is known before it is read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from apelr_data import SOURCES, DataConfig, DataError

__all__ = ["check_text_fits_memory"]

MOST_BYTES = 4_000_000_000
"""The largest stream, in bytes of text, that is read without a cap."""


def check_text_fits_memory(data: DataConfig, say: Callable[[str], None]) -> None:
    """Refuse an endless reading of training text into memory: a large stream without a cap and without the cache.

    A stream of unknown size is only warned of, through `say`. A mixture ends with its smallest source. Raises
    DataError.
    """
    caps = (data.max_train_examples, data.max_train_chars, data.max_train_tokens)
    parts = data.parts()
    if data.token_cache or any(caps) or not all(map(_streamed, parts)):
        return
    sizes = [SOURCES[part.source].text_bytes for part in parts]
    names = " + ".join(part.source for part in parts)
    if all(size and size > MOST_BYTES for size in sizes):
        raise DataError(
            f"data.source {names}: {_gigabytes(sizes)} of text would be read into memory; "
            "set data.token_cache true, or data.max_train_tokens"
        )
    if all(size is None or size > MOST_BYTES for size in sizes):
        say(f"warning: all of {names} is read into memory; set data.token_cache true or data.max_train_tokens if large")


def _streamed(part: DataConfig) -> bool:
    """Whether a source comes from the network as it is needed."""
    info = SOURCES[part.source]
    here = info.offline or (part.source == "hf" and Path(part.path or "").expanduser().is_dir())
    return not here and (info.streaming if part.streaming is None else part.streaming)


def _gigabytes(sizes: Sequence[int | None]) -> str:
    return f"about {min(size for size in sizes if size) / 1e9:,.0f} GB"
