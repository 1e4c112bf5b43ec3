"""Policies: rules, what counts as exact, and which versions have which of their fields."""

import dataclasses
import math

import pytest
import torch

from apelr_model import PlanPolicy, SamplingSettings, V1Config, V2Config, evaluate, generate, score
from apelr_model.policy import EXACT

ONLY_V2 = {
    "temperature": 0.5,
    "lookahead_horizon": 2,
    "feedback_scale": 0.3,
    "token_filtering": False,
}
OTHERS = {"mode": "uniform", "force_state": 0, "freeze_after": 4}

BROKEN = [
    ("temperature", 0.0, "between 1e-28 and 1e+28"),
    ("temperature", 1e-320, "between 1e-28 and 1e+28"),
    ("temperature", math.nan, "between 1e-28 and 1e+28"),
    ("temperature", math.inf, "between 1e-28 and 1e+28"),
    ("lookahead_horizon", 0, "between 1 and 2^62"),
    ("lookahead_horizon", 2**62 + 1, "between 1 and 2^62"),
    ("feedback_scale", -0.1, "between 0 and 1"),
    ("feedback_scale", 1.1, "between 0 and 1"),
    ("feedback_scale", math.nan, "between 0 and 1"),
    ("mode", "off", "normal or uniform"),
    ("force_state", -1, "null or >= 0"),
    ("freeze_after", -1, "null or between 0 and 2^62"),
    ("freeze_after", 2**62 + 1, "null or between 0 and 2^62"),
]


@pytest.mark.parametrize(("field", "value", "rule"), BROKEN)
def test_a_broken_rule_names_field_rule_and_value(field, value, rule):
    with pytest.raises(ValueError) as caught:
        PlanPolicy(**{field: value})
    assert str(caught.value) == f"{field} must be {rule}, got {value!r}"


def test_one_intervention_on_the_gate_at_a_time():
    with pytest.raises(ValueError, match=r"^force_state must be null when mode is uniform, got 2$"):
        PlanPolicy(mode="uniform", force_state=2)


def test_the_gate_is_the_belief_unless_something_makes_it_another():
    assert PlanPolicy() == EXACT
    for same in ({}, {"lookahead_horizon": 3}, {"token_filtering": False}, {"freeze_after": 0}):
        assert PlanPolicy(**same).gate_is_belief
    for other in ({"temperature": 0.9}, {"feedback_scale": 0.1}, {"mode": "uniform"}, {"force_state": 0}):
        assert not PlanPolicy(**other).gate_is_belief


def test_the_fields_tried_here_are_all_there_are():
    assert {field.name for field in dataclasses.fields(PlanPolicy)} == {*ONLY_V2, *OTHERS}


def usable(version):
    if version is V2Config:
        return {*ONLY_V2, *OTHERS}
    if version is V1Config:
        return set(OTHERS)
    return {"mode", "force_state"} if version.__name__ == "MixtureOfSoftmaxesConfig" else set()


@pytest.mark.parametrize("field", [*ONLY_V2, *OTHERS])
def test_a_version_takes_its_own_fields_and_refuses_the_others_by_name(make_model, make_batch, version, field):
    """Everywhere a policy can be handed in, before anything is read."""
    model = make_model(kind=version)
    policy = dataclasses.replace(model.policy, **{field: (ONLY_V2 | OTHERS)[field]})
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    prediction = model.predict(ids[:, 0], model.initial_state(1))
    calls = {
        "check_policy": lambda: model.check_policy(policy),
        "read": lambda: model.read(ids[:, :2], ids[:, 1:], policy=policy),
        "predict": lambda: model.predict(ids[:, 0], model.initial_state(1), policy=policy),
        "observe": lambda: model.observe(prediction, ids[:, 1], policy=policy),
        "score": lambda: score(model, [1, 2, 3], policy=policy),
        "evaluate": lambda: evaluate(model, [make_batch([4, 2])], policy=policy),
        "generate": lambda: generate(model, [[1, 2]], SamplingSettings(), max_new_tokens=1, seeds=[0], policy=policy),
    }
    for name, call in calls.items():
        if field in usable(version):
            call()
            continue
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == f"{model.config.version} has no {field}: it belongs to {OWNERS[field]}", name


OWNERS = {
    **dict.fromkeys(ONLY_V2, "v2_planner_required"),
    **dict.fromkeys(("mode", "force_state"), "versions with plan states"),
    "freeze_after": "v1_filtered_mixture and v2_planner_required",
}


def test_all_foreign_fields_are_told_at_once(make_model):
    policy = PlanPolicy(temperature=0.5, token_filtering=False, force_state=3)
    with pytest.raises(ValueError) as caught:
        make_model().check_policy(policy)
    assert str(caught.value).splitlines() == [
        "v1_filtered_mixture has no temperature: it belongs to v2_planner_required",
        "v1_filtered_mixture has no token_filtering: it belongs to v2_planner_required",
        "force_state must be between 0 and 2, got 3",
    ]


def test_a_state_that_is_not_there_cannot_be_forced(make_model):
    model = make_model(kind=V2Config)
    assert model.check_policy(PlanPolicy(force_state=2)).force_state == 2
    with pytest.raises(ValueError, match=r"^force_state must be between 0 and 2, got 3$"):
        model.check_policy(PlanPolicy(force_state=3))


def test_the_largest_counts_can_be_used(make_model):
    """The gate of a far horizon is a distribution, and a freeze that never comes changes nothing."""
    model = make_model(kind=V2Config)
    ids = [1, 2, 3, 4, 5, 6, 7]
    far = score(model, ids, policy=PlanPolicy(lookahead_horizon=2**62, feedback_scale=1.0))
    torch.testing.assert_close(far.log_gate.exp().sum(-1), torch.ones_like(far.log_prob))
    late = score(model, ids, policy=PlanPolicy(freeze_after=2**62))
    torch.testing.assert_close(late.log_prob, score(model, ids).log_prob, rtol=1e-13, atol=1e-13)


class TestOwnPolicy:
    @pytest.mark.parametrize("sizes", [{}, {"chunk_size": 2}])
    def test_all_versions_are_exact_by_default(self, make_model, version, sizes):
        known = {f.name for f in dataclasses.fields(version)}
        assert make_model(kind=version, **{k: v for k, v in sizes.items() if k in known}).policy == EXACT

    def test_that_of_version_2_is_what_its_configuration_says(self, make_model):
        model = make_model(
            kind=V2Config,
            planner_temperature=0.5,
            lookahead_horizon=3,
            lookahead_feedback_scale=0.25,
            token_filtering=False,
        )
        wanted = PlanPolicy(temperature=0.5, lookahead_horizon=3, feedback_scale=0.25, token_filtering=False)
        assert model.policy == wanted

    def test_it_is_used_where_none_is_given(self, make_model, make_batch):
        model = make_model(kind=V2Config, planner_temperature=0.5, lookahead_feedback_scale=0.25)
        ids = [1, 2, 3, 4, 5, 6]
        given, own, exact = (score(model, ids, policy=p).log_prob for p in (model.policy, None, EXACT))
        assert torch.equal(given, own)
        assert not torch.equal(exact, own)
        batch = make_batch([6, 3])
        assert evaluate(model, [batch]) == evaluate(model, [batch], policy=model.policy)
        assert evaluate(model, [batch]) != evaluate(model, [batch], policy=EXACT)
