"""The text column of one split of a dataset, through `datasets`, which is imported only here and when it is read."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from apelr_data.sources.arrow_text import column_texts, holds_text
from apelr_data.sources.hub_dataset import HubDataset
from apelr_data.sources.hub_errors import expected_errors, is_lost_connection
from apelr_data.sources.hub_quiet import quietly
from apelr_data.sources.nearest import listed, nearest_first

ROWS_AT_ONCE = 256
STREAMED_ROWS_AT_ONCE = 16
"""Few, because the library fetches further files to fill a piece."""
READ_ATTEMPTS = 4
"""How often a stream's read is tried again; each try is up to six requests with pauses, 23 s in all."""
DOWNLOAD_PAUSES = (1.0, 5.0, 15.0)
"""Seconds between the attempts at a download, which goes on where the last one broke off."""


class HubRows:
    """Reads a dataset; what is looked up of it once is kept, so that both splits are of one revision."""

    def __init__(self, dataset: HubDataset) -> None:
        """Nothing is imported or asked yet."""
        self._dataset = dataset
        self._builder: Any = None
        self._files: Mapping[str, Sequence[str]] | None = None
        self._commit: str | None = None

    @property
    def commit(self) -> str | None:
        """The commit of the hub that is read; None before it is known, and for a local folder."""
        return self._commit

    def texts(self, split: str) -> Generator[str]:
        """The texts row by row; a row without text is an empty one. Raises the errors of the libraries too."""
        for piece in quietly(self._pieces(split)):
            yield from column_texts(piece)

    def _pieces(self, split: str) -> Iterator[Any]:
        """The text column in Arrow arrays."""
        if not self._dataset.streaming:
            yield from self._column_of(self._downloaded(split))
            return
        builder = self._looked_up()
        files = self._files_of(split, self._files or builder.info.splits or {})
        if self._files and all(str(file).endswith(".parquet") for file in files):
            yield from self._parquet_pieces(files)
        else:
            if self._files:  # the other splits' files are not even to be looked at
                builder.config.data_files = type(builder.config.data_files)({split: files})
            yield from self._column_of(builder.as_streaming_dataset(split=split))

    def _looked_up(self) -> Any:
        """The library's builder of the whole configuration, for streaming."""
        import datasets

        if self._builder is None:
            # by default a lost connection would be tried for more than nine minutes
            datasets.config.STREAMING_READ_MAX_RETRIES = READ_ATTEMPTS
            datasets.config.STREAMING_OPEN_MAX_RETRIES = READ_ATTEMPTS
            self._builder = self._load(self._dataset.cache_dir)
            self._files = self._builder.config.data_files
        return self._builder

    def _load(self, cache_dir: str | None) -> Any:
        import datasets

        of, revision = self._dataset, self._commit or self._dataset.revision
        builder: Any = datasets.load_dataset_builder(of.path, of.name, revision=revision, cache_dir=cache_dir)
        if not of.local:
            self._commit = builder.hash
        return builder

    def _files_of(self, split: str, splits: Mapping[str, Any]) -> Any:
        """What is known of a split; refuses one that is not there."""
        if "[" in split or "+" in split:
            self._refuse_split(split, "parts and sums of splits need streaming: false; there is", splits)
        if split not in splits:
            self._refuse_split(split, f"{self._dataset.described} has no split {split!r}; there is", splits)
        return splits[split]

    def _refuse_split(self, split: str, problem: str, splits: Mapping[str, Any]) -> None:
        key = "val_split" if split == self._dataset.val_split else "train_split"
        self._dataset.refuse(key, f"{problem} {listed(nearest_first(split, map(str, splits)))}")

    def _downloaded(self, split: str) -> Any:
        """The rows of a split, downloaded and prepared without those of other splits."""
        import datasets

        bases = [part.partition("[")[0].strip() for part in split.split("+")]
        # the library prepares a configuration as a whole in one folder: a split alone needs a folder of its own
        root = Path(self._dataset.cache_dir or datasets.config.HF_DATASETS_CACHE)
        builder = self._load(str(root / "apelr" / "+".join(bases)))
        files = builder.config.data_files
        self._check_parts(split, files or builder.info.splits or {})
        if files is not None:
            chosen = {base: self._files_of(base, files) for base in bases}
            builder.config.data_files = type(files)(chosen)
        _patiently(lambda: builder.download_and_prepare(verification_mode="no_checks"))
        return builder.as_dataset(split=split)

    def _check_parts(self, split: str, splits: Mapping[str, Any]) -> None:
        """Refuse what cannot be read as parts and sums of splits, before anything is downloaded."""
        import datasets

        try:
            datasets.ReadInstruction.from_spec(split)
        except ValueError:
            self._refuse_split(split, f"{split!r} is no split, part of one (train[:90%]) or sum; there is", splits)

    def _column_of(self, rows: Any) -> Iterator[Any]:
        """The text column of the library's rows: other columns, such as dates, are never decoded."""
        names = rows.column_names or list(next(iter(rows), {}))
        self._check_column(names)
        size = STREAMED_ROWS_AT_ONCE if self._dataset.streaming else ROWS_AT_ONCE
        for piece in rows.select_columns([self._dataset.column]).with_format("arrow").iter(batch_size=size):
            self._check_kind(piece.schema.field(0).type)
            yield from piece.column(0).chunks

    def _parquet_pieces(self, files: Sequence[str]) -> Iterator[Any]:
        """The text column of parquet files, of which no other column is decoded.

        The library's own reader leaves threads behind that may hang or abort the program when it ends before
        the stream does; here all is read by the calling thread.
        """
        import pyarrow.parquet
        from datasets.utils.file_utils import xopen

        for name in files:
            with xopen(str(name), "rb") as stream:
                file = pyarrow.parquet.ParquetFile(stream, pre_buffer=False)  # a buffer is filled by threads
                self._check_column(file.schema_arrow.names)
                self._check_kind(file.schema_arrow.field(self._dataset.column).type)
                for group in range(file.num_row_groups):  # one by one: a batch would be filled from several
                    yield from self._group_pieces(file, group)

    def _group_pieces(self, file: Any, group: int) -> Iterator[Any]:
        columns = [self._dataset.column]
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns, use_threads=False):
            yield batch.column(0)

    def _check_column(self, names: Sequence[str]) -> None:
        column = self._dataset.column
        if column not in names:
            there = listed(nearest_first(column, names))
            self._dataset.refuse("text_field", f"{self._dataset.described} has no column {column!r}; there is {there}")

    def _check_kind(self, kind: Any) -> None:
        if not holds_text(kind):
            column = self._dataset.column
            self._dataset.refuse("text_field", f"{self._dataset.described} holds no text in {column!r} but {kind}")


def _patiently(download: Callable[[], Any]) -> None:
    """Download, after a lost connection again; the library itself tries a download once. Raises its last error."""
    for pause in DOWNLOAD_PAUSES:
        try:
            download()
            return
        except expected_errors() as error:
            if not is_lost_connection(error):
                raise
            time.sleep(pause)
    download()
