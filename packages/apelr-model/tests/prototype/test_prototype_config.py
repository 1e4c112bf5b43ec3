"""The prototype's `model_config`: versions, needed and optional fields, and what each refusal says."""

import pytest

from apelr_model import CheckpointError, V1Config, V2Config
from apelr_model.prototype_config import PROTOTYPE_VERSIONS, read_prototype_config


@pytest.fixture
def v1(make_content):
    return make_content(1)["model_config"]


@pytest.fixture
def v2(make_content):
    return make_content(2)["model_config"]


def read(values, version=None):
    return read_prototype_config(version, values, "old.pt")


def refusal(values, version=None):
    with pytest.raises(CheckpointError) as caught:
        read(values, version)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_field_of_v1(v1):
    found = read(v1, "v1_filtered_mixture")
    assert found.model == V1Config(
        num_plan_states=3,
        chunk_size=4,
        token_dim=5,
        hidden_dim=7,
        fusion_dim=6,
        num_layers=2,
        dropout=0.1,
        planner_context_scale=1.5,
        planner_self_bias=1.8,
    )
    assert (found.vocab_size, found.context_scale, found.notices) == (11, 1.5, [])


def test_every_field_of_v2(v2):
    v2.update(planner_temperature=0.7, token_filtering=False, lookahead_horizon=3, async_planner=False)
    found = read(v2, "v2_planner_required")
    assert found.model == V2Config(
        num_plan_states=3,
        num_experts=3,
        chunk_size=4,
        token_dim=5,
        hidden_dim=7,
        num_layers=2,
        dropout=0.1,
        planner_context_scale=1.0,
        planner_self_bias=1.8,
        future_horizon_chunks=2,
        planner_temperature=0.7,
        token_filtering=False,
        lookahead_horizon=3,
        lookahead_feedback_scale=0.25,
        async_planner=False,
    )
    assert (found.vocab_size, found.context_scale, found.notices) == (11, 1.5, [])


def test_a_file_without_a_version_is_v1(v1):
    assert read(v1) == read(v1, "v1_filtered_mixture")


def test_the_prototypes_transformer_is_refused_by_name(v1):
    message = refusal(v1, "transformer_lm")
    assert message.startswith("old.pt holds the prototype's transformer_lm, which is another network")
    assert message.endswith("v1_filtered_mixture, v2_planner_required")


@pytest.mark.parametrize("version", ["v3", "", "mixture_of_softmaxes"])
def test_an_unknown_version_names_those_that_are_known(v1, version):
    known = ", ".join(PROTOTYPE_VERSIONS)
    assert refusal(v1, version) == f"old.pt has model version {version!r}; known versions of the prototype: {known}"


@pytest.mark.parametrize(
    "name",
    [
        *("vocab_size", "num_plan_states", "chunk_size", "token_dim", "hidden_dim", "fusion_dim", "num_layers"),
        "planner_context_scale",
    ],
)
def test_what_no_default_could_replace_is_needed(v1, name):
    del v1[name]
    assert refusal(v1) == f"old.pt lacks model_config.{name}"


def test_all_missing_fields_are_named_at_once():
    assert refusal({}).count("model_config.") == 8


def test_the_rest_has_todays_defaults(v1, v2):
    for name in ("dropout", "planner_self_bias", "eps"):
        del v1[name]
        v2.pop(name)
    assert read(v1).model.dropout == V1Config().dropout
    for name in ("num_experts", "future_horizon_chunks", "planner_temperature", "token_filtering"):
        del v2[name]
    found = read(v2, "v2_planner_required")
    assert (found.model.planner_temperature, found.model.token_filtering, found.notices) == (1.0, True, [])


@pytest.mark.parametrize("token_filtering", [True, False])
def test_an_earlier_revision_of_v2_has_one_notice(v2, token_filtering):
    for name in ("lookahead_horizon", "lookahead_feedback_scale", "async_planner"):
        del v2[name]
    v2["token_filtering"] = token_filtering
    found = read(v2, "v2_planner_required")
    assert (found.model.lookahead_feedback_scale, found.model.token_filtering) == (0.0, token_filtering)
    (notice,) = found.notices
    assert "lookahead_horizon, lookahead_feedback_scale, async_planner" in notice
    assert notice.endswith("its training NLL is not reproduced")


def test_a_horizon_of_zero_switches_off(v2):
    v2.update(lookahead_horizon=0, future_horizon_chunks=0)
    found = read(v2, "v2_planner_required")
    assert (found.model.lookahead_horizon, found.model.lookahead_feedback_scale) == (1, 0.0)
    assert found.model.future_horizon_chunks == 1
    assert found.notices == [
        "lookahead_horizon 0 is read as 1 with lookahead_feedback_scale 0",
        "future_horizon_chunks 0 is read as 1",
    ]


def test_fields_that_mean_nothing_here_are_named(v1):
    v1.update(zeta=1, alpha={"x": 2})
    assert read(v1).notices == ["fields of model_config that mean nothing here are ignored: alpha, zeta"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocab_size", "11", "model_config.vocab_size must be an int >= 2, got '11'"),
        ("vocab_size", 1, "model_config.vocab_size must be an int >= 2, got 1"),
        ("vocab_size", True, "model_config.vocab_size must be an int >= 2, got True"),
        ("hidden_dim", "7", "its model_config is not valid: model_config.hidden_dim must be int, got '7'"),
        ("hidden_dim", 7.0, "its model_config is not valid: model_config.hidden_dim must be int, got 7.0"),
        ("hidden_dim", None, "its model_config is not valid: model_config.hidden_dim must be int, got None"),
        ("chunk_size", True, "its model_config is not valid: model_config.chunk_size must be int, got True"),
        ("chunk_size", 0, "its model_config is not valid: chunk_size must be >= 1, got 0"),
        ("num_plan_states", -3, "its model_config is not valid: num_plan_states must be >= 1, got -3"),
        ("chunk_size", 2**63, "model_config.chunk_size must be between -2^62 and 2^62, got 9223372036854775808"),
        ("dropout", float("nan"), "its model_config is not valid: dropout must be >= 0 and < 1, got nan"),
        ("planner_context_scale", float("inf"), "planner_context_scale must be a finite number >= 0, got inf"),
    ],
)
def test_fields_of_another_type_or_against_a_rule(v1, name, value, message):
    v1[name] = value
    assert refusal(v1).startswith("old.pt: ")
    assert refusal(v1).endswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_experts", 5, "num_experts must be null or num_plan_states (3), got 5"),
        ("token_filtering", 1, "model_config.token_filtering must be bool, got 1"),
        ("planner_temperature", 0, "planner_temperature must be between 1e-28 and 1e+28, got 0.0"),
        ("lookahead_feedback_scale", 1.5, "lookahead_feedback_scale must be between 0 and 1, got 1.5"),
    ],
)
def test_the_same_for_v2(v2, name, value, message):
    v2[name] = value
    assert refusal(v2, "v2_planner_required") == f"old.pt: its model_config is not valid: {message}"
