"""What a token cache says of each split: counts, files, and what cleaning did to the text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from apelr_data.text_policy import TextReport
from apelr_data.token_file import TYPES, Shard


@dataclass(frozen=True, kw_only=True)
class SplitTokens:
    """One split of a token cache, as its manifest describes it."""

    tokens: int
    "Ids in the stream."
    documents: int
    "Documents begun in it."
    text_bytes: int
    "UTF-8 bytes that its ids account for."
    unknown: int
    "Characters that became the unknown id."
    sha256: str
    "SHA-256 (hex) of all ids."
    ids: tuple[Shard, ...]
    "The files of the ids."
    byte_counts: tuple[Shard, ...]
    "The files of the byte counts."
    report: TextReport
    "What the odd-text policy counted."

    def to_plain(self) -> dict[str, Any]:
        """The content as JSON knows it."""
        return asdict(self)


def split_from_plain(plain: Any) -> SplitTokens:
    """The split that `to_plain` gave, after its way through JSON. Raises ValueError for any other content."""
    content = _of_type(plain, dict, "a split")
    tokens = _count(content, "tokens")
    report = _of_type(content.get("report"), dict, "report")
    return SplitTokens(
        tokens=tokens,
        documents=_count(content, "documents"),
        text_bytes=_count(content, "text_bytes"),
        unknown=_count(content, "unknown"),
        sha256=_of_type(content.get("sha256"), str, "sha256"),
        ids=_shards(content, "ids", tokens),
        byte_counts=_shards(content, "byte_counts", tokens),
        report=TextReport(**{field.name: _count(report, field.name) for field in fields(TextReport)}),
    )


def _shards(content: Mapping[str, Any], name: str, tokens: int) -> tuple[Shard, ...]:
    shards = tuple(_shard(each) for each in _of_type(content.get(name), list, name))
    if sum(shard.length for shard in shards) != tokens or tokens < 1:
        raise ValueError(f"the files of {name} must hold {tokens} values, at least 1")
    return shards


def _shard(plain: Any) -> Shard:
    content = _of_type(plain, dict, "a shard")
    if content.get("type") not in TYPES:
        raise ValueError(f"a type must be one of {', '.join(TYPES)}, got {content.get('type')!r}")
    length = _count(content, "length")
    if length == 0:
        raise ValueError("a shard must hold a value")
    return Shard(length=length, type=content["type"], sha256=_of_type(content.get("sha256"), str, "sha256"))


def _count(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{name} must be a whole number >= 0, got {value!r}")
    return value


def _of_type(value: Any, kind: type[Any], name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    return value
