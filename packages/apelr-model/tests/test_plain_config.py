"""Configurations as plain data: there and back, strict about keys and types, lenient about keys that came later."""

import dataclasses
import json
import math

import pytest

from apelr_model import MixtureOfSoftmaxesConfig, TransformerLMConfig, V1Config, V2Config
from apelr_model.executor_config import GRUConfig, TransformerConfig
from apelr_model.plain_config import MODEL_VERSIONS, config_from_plain

FULL = [
    V1Config(num_plan_states=3, dropout=0.5, boundary_evidence=False, fusion_dim=128, tie_embeddings=True),
    V2Config(
        num_experts=8,
        planner_temperature=0.5,
        token_filtering=False,
        async_planner=True,
        plan_commitment="gumbel_st",
        plan_temperature_start=2.0,
        plan_temperature_end=0.5,
        executor=TransformerConfig(num_kv_heads=2, window=7, activation_checkpointing=True),
    ),
    V2Config(),
    TransformerLMConfig(executor=TransformerConfig(num_heads=8, mlp_dim=99, rope_base=5e5)),
    MixtureOfSoftmaxesConfig(num_plan_states=5, executor=GRUConfig()),
]


@pytest.mark.parametrize("config", FULL)
def test_there_and_back_through_json(config):
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    found = config_from_plain(type(config), plain)
    assert found == config
    assert dataclasses.asdict(found) == dataclasses.asdict(config)


def test_all_versions_are_known_by_their_names():
    assert {
        "v1_filtered_mixture": V1Config,
        "v2_planner_required": V2Config,
        "transformer_lm": TransformerLMConfig,
        "mixture_of_softmaxes": MixtureOfSoftmaxesConfig,
    } == MODEL_VERSIONS
    for name, kind in MODEL_VERSIONS.items():
        assert kind().version == name


@pytest.mark.parametrize("kind", MODEL_VERSIONS.values())
def test_missing_keys_have_their_defaults(kind):
    """Files from before a key existed."""
    assert config_from_plain(kind, {}) == kind()
    assert config_from_plain(kind, {"hidden_dim": 64}) == kind(hidden_dim=64)


def test_a_file_from_before_executors_could_be_chosen_has_a_gru():
    values = dataclasses.asdict(V1Config(num_layers=2))
    del values["executor"], values["tie_embeddings"]
    assert config_from_plain(V1Config, values) == V1Config(num_layers=2)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (V1Config, {"num_experts": 8}, "num_experts is no key of V1Config"),
        (V2Config, {"fusion_dim": 8}, "fusion_dim is no key of V2Config"),
        (V2Config, {"hidden_dim": "8"}, "hidden_dim must be int, got '8'"),
        (V2Config, {"hidden_dim": 8.0}, "hidden_dim must be int, got 8.0"),
        (V2Config, {"hidden_dim": True}, "hidden_dim must be int, got True"),
        (V2Config, {"dropout": "0.5"}, "dropout must be float, got '0.5'"),
        (V2Config, {"dropout": False}, "dropout must be float, got False"),
        (V2Config, {"dropout": None}, "dropout must be float, got None"),
        (V2Config, {"token_filtering": 1}, "token_filtering must be bool, got 1"),
        (V2Config, {"num_experts": 8.0}, "num_experts must be int or null, got 8.0"),
        (V2Config, {"plan_temperature_start": "hot"}, "plan_temperature_start must be float or null, got 'hot'"),
        (V2Config, {"plan_commitment": "hard"}, "plan_commitment must be 'soft' or 'gumbel_st', got 'hard'"),
        (
            V2Config,
            {"version": "v1_filtered_mixture"},
            "version must be 'v2_planner_required', got 'v1_filtered_mixture'",
        ),
        (V2Config, {"hidden_dim": 2**63}, "hidden_dim must be between -2^62 and 2^62, got 9223372036854775808"),
        (V2Config, {"executor": None}, "executor must have a type, one of gru, transformer, got None"),
        (V2Config, {"executor": {}}, "executor must have a type, one of gru, transformer, got {}"),
        (
            V2Config,
            {"executor": {"type": "lstm"}},
            "executor must have a type, one of gru, transformer, got {'type': 'lstm'}",
        ),
        (V2Config, {"executor": {"type": "gru", "window": 3}}, "executor.window is no key of GRUConfig"),
        (
            V2Config,
            {"executor": {"type": "transformer", "window": "3"}},
            "executor.window must be int or null, got '3'",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_key(kind, values, message):
    with pytest.raises(ValueError) as caught:
        config_from_plain(kind, values, "model.")
    assert str(caught.value) == f"model.{message}"


def test_whole_numbers_are_good_enough_for_floats():
    found = config_from_plain(
        V2Config, {"planner_temperature": 2, "plan_temperature_start": 2, "plan_temperature_end": 1}
    )
    assert found == V2Config(planner_temperature=2.0, plan_temperature_start=2.0, plan_temperature_end=1.0)
    assert isinstance(found.planner_temperature, float)
    assert isinstance(found.plan_temperature_start, float)


def test_rules_between_fields_hold_too():
    with pytest.raises(ValueError, match=r"^num_experts must be null or num_plan_states \(8\), got 3$"):
        config_from_plain(V2Config, {"num_experts": 3})
    with pytest.raises(ValueError, match=r"^dropout must be >= 0 and < 1, got nan$"):
        config_from_plain(V2Config, {"dropout": math.nan})
    with pytest.raises(ValueError, match=r"^window must be null or >= 1, got 0$"):
        config_from_plain(V2Config, {"executor": {"type": "transformer", "window": 0}})
