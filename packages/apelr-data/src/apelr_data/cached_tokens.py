"""Both splits of a corpus as files in one folder: writing them document by document, and reading them again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from apelr_data.checked_json import differences, read_json, write_json
from apelr_data.config import DataConfig, Split
from apelr_data.corpus import Corpus
from apelr_data.errors import DataError, one_line
from apelr_data.pack import DocumentPacker, TokenStream
from apelr_data.text_policy import TextReport
from apelr_data.token_file import ShardedArray, ShardWriter, damaged
from apelr_data.token_manifest import SplitTokens, split_from_plain
from apelr_tokenizers import Tokenizer

MANIFEST = "manifest.json"
SPLITS: tuple[Split, ...] = get_args(Split)

Progress = Callable[[Split, int, int, int], None]
"""Told the split being written, and how many documents, ids and bytes of it are done."""


@dataclass(frozen=True, eq=False)
class CachedTokens:
    """Both splits of a token cache."""

    folder: Path
    "Where its files are."
    streams: dict[Split, TokenStream]
    "The ids, in the files."
    reports: dict[Split, TextReport]
    "What the odd-text policy did when the text was read."
    revisions: dict[str, str]
    "The commit of each of the hub's datasets that was read, by its id."
    reused: bool
    "Whether it was there already."

    def check(self) -> None:
        """Read every file and compare its checksum. Raises DataError for the first that is damaged."""
        for stream in self.streams.values():
            for array in (stream.ids, stream.byte_counts):
                assert isinstance(array, ShardedArray), "a cache's arrays lie in files"
                array.check()


def readable(corpus: Corpus, split: Split) -> Iterator[str]:
    """The documents of a split. Raises DataError where they cannot be read, which is no error of the cache."""
    try:
        yield from corpus.documents(split)
    except OSError as error:
        raise DataError(f"cannot read the text of {corpus.name}: {error.strerror or one_line(error)}") from error


def write_tokens(
    folder: Path,
    key: dict[str, Any],
    tokenizer: Tokenizer,
    corpus: Corpus,
    config: DataConfig,
    progress: Progress | None,
) -> None:
    """Make the folder and fill it, the manifest last. Memory does not grow with the corpus. Raises OSError."""
    folder.mkdir()
    splits = {}
    for split in SPLITS:
        packer = DocumentPacker(tokenizer, max_tokens=config.max_tokens(split))
        ids_name, bytes_name = _names(split)
        with ShardWriter(folder, ids_name) as ids, ShardWriter(folder, bytes_name) as byte_counts:
            for part in packer.parts(readable(corpus, split)):
                ids.write(part.ids)
                byte_counts.write(part.byte_counts)
                if progress:
                    progress(split, packer.documents, packer.tokens, packer.text_bytes)
        splits[split] = SplitTokens(
            tokens=packer.tokens,
            documents=packer.documents,
            text_bytes=packer.text_bytes,
            unknown=packer.unknown,
            sha256=packer.sha256,
            ids=tuple(ids.shards),
            byte_counts=tuple(byte_counts.shards),
            report=corpus.report(split),
        ).to_plain()
    write_json(folder / MANIFEST, {"key": key, "revisions": corpus.revisions(), "splits": splits})


def read_tokens(folder: Path, key: dict[str, Any], tokenizer: Tokenizer, *, reused: bool) -> CachedTokens | None:
    """The tokens in a folder; None where there are none, or ones with another key. Raises DataError if damaged.

    Sizes of files are compared here; contents when they are first used, or by `CachedTokens.check`.
    """
    manifest = read_json(folder / MANIFEST)
    if manifest is None or manifest.get("key") != key:
        return None
    try:
        splits = {split: split_from_plain(manifest["splits"][split]) for split in SPLITS}
        revisions = {str(path): str(commit) for path, commit in dict(manifest["revisions"]).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder / MANIFEST, str(error)) from error
    return CachedTokens(
        folder=folder,
        streams={split: _stream(folder, split, of, tokenizer) for split, of in splits.items()},
        reports={split: of.report for split, of in splits.items()},
        revisions=revisions,
        reused=reused,
    )


def differs(folder: Path, key: dict[str, Any]) -> list[str]:
    """What distinguishes the tokens in a folder from `key`; nothing where there are none to compare with."""
    try:
        manifest = read_json(folder / MANIFEST)
    except DataError:
        return []
    old = manifest.get("key") if manifest else None
    return differences(old, key) if isinstance(old, dict) else []


def _names(split: Split) -> tuple[str, str]:
    """The names of the two arrays of a split."""
    return f"{split}-ids", f"{split}-byte-counts"


def _stream(folder: Path, split: Split, of: SplitTokens, tokenizer: Tokenizer) -> TokenStream:
    """The stream whose values lie in the files of a split."""
    ids_name, bytes_name = _names(split)
    return TokenStream(
        ids=ShardedArray(folder, ids_name, of.ids),
        byte_counts=ShardedArray(folder, bytes_name, of.byte_counts),
        documents=of.documents,
        text_bytes=of.text_bytes,
        unknown=of.unknown,
        pad_id=tokenizer.pad_id,
        bos_id=tokenizer.bos_id,
        sha256=of.sha256,
    )
