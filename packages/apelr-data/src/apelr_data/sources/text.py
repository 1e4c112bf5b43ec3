"""The user's own text: plain files are documents, large ones in parts; rows of .jsonl, .csv and .parquet are too."""

from collections.abc import Generator

from apelr_data.config import DataConfig, Split
from apelr_data.sources.files import PLAIN_ENDINGS, find_files, text_format
from apelr_data.sources.long_text import read_parts, read_split
from apelr_data.sources.protocol import RawDocument
from apelr_data.sources.records import read_rows


class TextSource:
    """The files of `path` and `val_path`, looked up when it is made, so that a wrong path fails at once.

    With `val_path`, `path` is all training text and `val_path` all validation text. Without it, the end of each
    plain file is held out, and of rows those that a hash picks.
    """

    local = True

    def __init__(self, section: str, config: DataConfig) -> None:
        """`section` is where the keys stand, for messages. Raises DataError when a path names nothing to read."""
        self._field_key = f"{section}.text_field"
        self._field = config.text_field
        self._val_fraction = config.val_fraction
        self._train_files = find_files(f"{section}.path", config.path or "")
        self._val_files = None if config.val_path is None else find_files(f"{section}.val_path", config.val_path)

    def read(self, split: Split) -> Generator[RawDocument]:
        """The documents file by file in sorted order; raises DataError when a file cannot be read."""
        shared = self._val_files is None
        files = self._train_files if self._val_files is None or split == "train" else self._val_files
        for file in files:
            if text_format(file) not in PLAIN_ENDINGS:
                yield from (RawDocument(text, by_hash=shared) for text in read_rows(file, self._field, self._field_key))
                continue
            texts = read_split(file, split, self._val_fraction) if shared else read_parts(file)
            yield from (RawDocument(text, by_hash=False) for text in texts)
