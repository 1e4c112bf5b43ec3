"""Where documents come from: one module for each kind of source, behind the `Source` protocol."""

from apelr_data.sources.protocol import RawDocument, Source
from apelr_data.sources.registry import OFFLINE_SOURCES, SOURCES, SourceInfo

__all__ = ["OFFLINE_SOURCES", "SOURCES", "RawDocument", "Source", "SourceInfo"]
