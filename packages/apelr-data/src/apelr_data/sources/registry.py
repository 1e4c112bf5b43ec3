"""The table of sources: one entry for each name that `data.source` may have."""

from dataclasses import dataclass

from apelr_data.config import LOCAL_SOURCES, SourceName


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """One line of the table of sources."""

    name: SourceName
    "The value of data.source."
    summary: str
    "What it is, in one sentence."
    hub_id: str | None = None
    "The dataset's id on the Hugging Face hub; None for a source that needs no network, and for hf."
    hub_config: str | None = None
    "The configuration of that dataset."
    hub_validation: str | None = None
    "The hub's own validation split; None where a hash of each document decides."
    streaming: bool = False
    "Whether rows are read as they are needed, so that nothing is downloaded whole."
    size: str
    "How much there is."
    text_bytes: int | None = None
    "About how many bytes of text there are; None where the user decides."
    licence: str
    "The licence as the corpus states it."
    splits: str
    "Where train and validation come from."

    @property
    def offline(self) -> bool:
        """True when no network is needed."""
        return self.name in LOCAL_SOURCES

    @property
    def reading(self) -> str:
        """How it is read unless data.streaming says otherwise: local, streamed or downloaded."""
        return "local" if self.offline else "streamed" if self.streaming else "downloaded"


_WIKITEXT_LICENCE = "CC BY-SA 3.0 and GFDL"
_BY_HASH = "train; a hash of each document holds out val_fraction"

_TABLE = (
    SourceInfo(
        name="storyworld",
        summary="Short stories made by a seeded grammar with a planted plan, its entropy known exactly.",
        size="as many stories as asked for",
        licence="Apache-2.0 (this project)",
        splits="train and validation stories never coincide",
    ),
    SourceInfo(
        name="planted",
        summary="Symbols that follow planted plans, a Markov chain over tables of symbol pairs, all known exactly.",
        size="as many symbols as asked for",
        licence="Apache-2.0 (this project)",
        splits="train and validation are drawn independently from the same tables",
    ),
    SourceInfo(
        name="python_docs",
        summary="The running Python's help topics and the docstrings of its standard library.",
        size="about 2 MB, depending on the Python",
        text_bytes=2_000_000,
        licence="PSF-2.0",
        splits="deduplicated; a hash of each document holds out val_fraction",
    ),
    SourceInfo(
        name="text",
        summary="The user's own .txt, .md, .jsonl, .csv and .parquet files, compressed or not.",
        size="as large as the files",
        licence="the user's own",
        splits="val_path, or val_fraction: of plain files the end, of rows those that a hash picks",
    ),
    SourceInfo(
        name="tinystories",
        summary="Very short stories in a small child's words, written by language models.",
        hub_id="roneneldan/TinyStories",
        hub_config="default",
        hub_validation="validation",
        streaming=True,
        size="2.1 million stories, 1.9 GB of text",
        text_bytes=1_900_000_000,
        licence="CDLA-Sharing-1.0",
        splits="train and validation",
    ),
    SourceInfo(
        name="wikitext103",
        summary="Good and featured Wikipedia articles, lines re-joined into articles.",
        hub_id="Salesforce/wikitext",
        hub_config="wikitext-103-raw-v1",
        hub_validation="validation",
        size="1.8 million lines, 549 MB of text (315 MB to download)",
        text_bytes=549_000_000,
        licence=_WIKITEXT_LICENCE,
        splits="train and validation",
    ),
    SourceInfo(
        name="wikitext2",
        summary="A small part of wikitext103, with the same validation text.",
        hub_id="Salesforce/wikitext",
        hub_config="wikitext-2-raw-v1",
        hub_validation="validation",
        size="36,718 lines, 13.5 MB of text",
        text_bytes=13_500_000,
        licence=_WIKITEXT_LICENCE,
        splits="train and validation",
    ),
    SourceInfo(
        name="fineweb_edu",
        summary="Web pages picked for their worth in teaching, a sample of 10 billion tokens.",
        hub_id="HuggingFaceFW/fineweb-edu",
        hub_config="sample-10BT",
        streaming=True,
        size="about 10 billion tokens, 30 GB to download",
        text_bytes=40_000_000_000,
        licence="ODC-By",
        splits=_BY_HASH,
    ),
    SourceInfo(
        name="fineweb",
        summary="Filtered and deduplicated web pages, a sample of 10 billion tokens.",
        hub_id="HuggingFaceFW/fineweb",
        hub_config="sample-10BT",
        streaming=True,
        size="about 10 billion tokens",
        text_bytes=40_000_000_000,
        licence="ODC-By",
        splits=_BY_HASH,
    ),
    SourceInfo(
        name="c4_en",
        summary="The English part of the Colossal Clean Crawled Corpus of web pages.",
        hub_id="allenai/c4",
        hub_config="en",
        hub_validation="validation",
        streaming=True,
        size="365 million documents, 829 GB of text",
        text_bytes=829_000_000_000,
        licence="ODC-By",
        splits="train and validation",
    ),
    SourceInfo(
        name="wiki40b_en",
        summary="Cleaned English Wikipedia articles, structure markers turned into blank lines.",
        hub_id="google/wiki40b",
        hub_config="en",
        hub_validation="validation",
        streaming=True,
        size="2.9 million articles, 10.5 GB of text",
        text_bytes=10_500_000_000,
        licence="none stated (Wikipedia text)",
        splits="train and validation",
    ),
    SourceInfo(
        name="cc_news",
        summary="News articles in English from Common Crawl, 2017 to 2019.",
        hub_id="vblagoje/cc_news",
        hub_config="plain_text",
        streaming=True,
        size="708,241 articles, 1.1 GB to download (about 1.8 GB of text, estimated)",
        text_bytes=1_800_000_000,
        licence="unknown: do not redistribute",
        splits=_BY_HASH,
    ),
    SourceInfo(
        name="hf",
        summary="Any other dataset of the hub, or a local folder of data files: data.path, name, text_field.",
        streaming=True,
        size="as large as the dataset",
        licence="the dataset's own",
        splits="train_split and val_split, or train_split alone; a hash of each document holds out val_fraction",
    ),
)

SOURCES: dict[SourceName, SourceInfo] = {info.name: info for info in _TABLE}
"""Every source by its name."""
OFFLINE_SOURCES: tuple[SourceName, ...] = tuple(info.name for info in _TABLE if info.offline)
"""Those that need no network."""
