"""What general compressors need for the validation text, in bits per byte."""

import gzip
import lzma

from apelr_data.errors import DataError

PRIMING_LIMIT = 1 << 24
_XZ_DICTIONARY = 1 << 26  # what xz -9 has
_SMALLEST_DICTIONARY = 1 << 12
_LARGEST_DICTIONARY = 3 << 29  # the encoder's own limit


def compression_baselines(train: bytes, val: bytes) -> dict[str, float]:
    """Bits per byte of `val` under `gzip_9`, `xz_9e` and `xz_9e_primed`.

    Primed means size(train + val) - size(train), with a dictionary that covers both: what xz needs for the
    validation text when it has just seen the training text. Of a longer training text the last `PRIMING_LIMIT`
    bytes count. Raises DataError for an empty validation text.
    """
    if not val:
        raise DataError("compression baselines need validation text, got none")
    train = train[-PRIMING_LIMIT:]
    dictionary = _covering(len(train) + len(val))
    primed = _xz_size(train + val, dictionary) - _xz_size(train, dictionary)
    sizes = {
        "gzip_9": len(gzip.compress(val, compresslevel=9, mtime=0)),
        "xz_9e": _xz_size(val, min(_covering(len(val)), _XZ_DICTIONARY)),
        "xz_9e_primed": primed,
    }
    return {name: 8 * size / len(val) for name, size in sizes.items()}


def _covering(size: int) -> int:
    """The power of two that covers `size` bytes: a smaller dictionary than preset 9's needs less memory."""
    return min(max(_SMALLEST_DICTIONARY, 1 << (size - 1).bit_length()), _LARGEST_DICTIONARY)


def _xz_size(data: bytes, dictionary: int) -> int:
    """Bytes of the .xz form of `data` with preset 9e and a dictionary of this size."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))
