from apelr_cli.run_config import RunConfig
from apelr_cli.typed_reader import TypedReader
from apelr_cli.variants import V2_KEYS, field_types


def test_a_key_with_a_config_class_is_no_foreign_key():
    """The table of keys without a class here must shrink when a class comes."""
    for dotted in V2_KEYS:
        section, _, name = dotted.partition(".")
        assert name not in field_types(field_types(RunConfig)[section])


def test_each_foreign_key_is_told_its_version():
    raw = {"model": {}, "train": {}}
    for dotted in V2_KEYS:
        section, _, name = dotted.partition(".")
        raw[section][name] = 1
    reader = TypedReader(RunConfig, raw, lambda declared, value: value)
    reader.foreign = V2_KEYS
    reader.read()
    assert reader.problems == [
        f"{dotted} belongs to model.version v2_planner_required, not v1_filtered_mixture" for dotted in V2_KEYS
    ]
