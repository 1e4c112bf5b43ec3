"""Text corpora, planted-plan stories and packed token rows for APEL-R."""

from apelr_data.baselines import compression_baselines
from apelr_data.cached_tokens import CachedTokens
from apelr_data.config import DataConfig, MixedSource, SourceName, Split
from apelr_data.corpus import Corpus, open_corpus
from apelr_data.errors import DataError
from apelr_data.gold_plans import GoldPlans, gold_plans
from apelr_data.lane_order import LaneOrder
from apelr_data.pack import TokenStream, pack_documents
from apelr_data.planted import PlantedSource, PlantedStream
from apelr_data.planted_config import PlantedConfig
from apelr_data.planted_tables import PlanFilter, PlantedTables
from apelr_data.row_order import RowOrder
from apelr_data.rows import Batch, Rows
from apelr_data.sources import OFFLINE_SOURCES, SOURCES, SourceInfo
from apelr_data.storyworld import (
    BEATS,
    Story,
    generate_story,
    sentence_beat_log_probs,
    sentence_is_possible,
    split_sentences,
    story_log_prob,
)
from apelr_data.text_policy import TextReport, clean_text
from apelr_data.token_cache import TokenCache

__all__ = [
    "BEATS",
    "OFFLINE_SOURCES",
    "SOURCES",
    "Batch",
    "CachedTokens",
    "Corpus",
    "DataConfig",
    "DataError",
    "GoldPlans",
    "LaneOrder",
    "MixedSource",
    "PlanFilter",
    "PlantedConfig",
    "PlantedSource",
    "PlantedStream",
    "PlantedTables",
    "RowOrder",
    "Rows",
    "SourceInfo",
    "SourceName",
    "Split",
    "Story",
    "TextReport",
    "TokenCache",
    "TokenStream",
    "clean_text",
    "compression_baselines",
    "generate_story",
    "gold_plans",
    "open_corpus",
    "pack_documents",
    "sentence_beat_log_probs",
    "sentence_is_possible",
    "split_sentences",
    "story_log_prob",
]
