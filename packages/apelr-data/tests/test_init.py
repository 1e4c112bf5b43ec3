"""What the package offers, and what importing it does not do."""

import apelr_data


def test_the_public_names_are_frozen():
    assert apelr_data.__all__ == [
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
    for name in apelr_data.__all__:
        assert hasattr(apelr_data, name)


IMPORTED = """
import sys
from apelr_data import DataConfig, Rows, open_corpus
for config in (
    DataConfig(max_train_examples=2),
    DataConfig(source="python_docs", max_train_examples=2),
    DataConfig(source="text", path=sys.argv[1] if len(sys.argv) > 1 else %r),
    DataConfig(source="tinystories"),
):
    corpus = open_corpus(config, seed=0)
    if config.source != "tinystories":
        list(corpus.documents("train"))
print(sorted({"datasets", "huggingface_hub", "pyarrow", "torch", "fsspec"} & set(sys.modules)))
"""


def test_offline_sources_import_no_hub_library_and_nothing_imports_torch(run_python, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\nthree\n", encoding="utf-8")
    done = run_python(IMPORTED % str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert done.stderr == ""
