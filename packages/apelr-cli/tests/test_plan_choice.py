from typing import Any

import click
import pytest

from apelr_cli.plan_choice import choose_lookahead, choose_policy
from apelr_cli.plan_options import PLAN_OPTIONS, plan_options
from apelr_model import (
    MixtureOfSoftmaxesConfig,
    PlannerLM,
    PlanPolicy,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
)

V2_ONLY = {"temperature": 1.0, "lookahead_horizon": 1, "feedback_scale": 0.0, "token_filtering": False}


def model(form: Any, **changes: Any) -> PlannerLM:
    return build_model(form(token_dim=4, hidden_dim=4, **changes), 7)


def test_nothing_given_is_the_models_own_policy() -> None:
    own = model(V2Config, lookahead_feedback_scale=0.3, lookahead_horizon=2)
    choice = choose_policy(own, dict.fromkeys(PLAN_OPTIONS))
    assert choice.policy == own.policy == PlanPolicy(feedback_scale=0.3, lookahead_horizon=2)
    assert choice.gate == "causal policy"
    assert choice.notice == (
        "Note: the gate is a causal policy (lookahead feedback 0.3, horizon 2), not the exact filter"
    )


def test_what_is_given_changes_the_models_own() -> None:
    own = model(V2Config, lookahead_feedback_scale=0.3, planner_temperature=0.5)
    given = {"feedback_scale": 0.0, "temperature": 2.0, "token_filtering": False, "freeze_after": 3}
    assert choose_policy(own, given).policy == PlanPolicy(temperature=2.0, token_filtering=False, freeze_after=3)
    exact = choose_policy(own, {"feedback_scale": 0.0, "temperature": 1.0})
    assert (exact.policy, exact.gate, exact.notice) == (PlanPolicy(), "exact filter", None)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"mode": "uniform"}, "all plan states weigh the same"),
        ({"force_state": 2}, "plan state 2 is forced"),
        ({"temperature": 0.5}, "planner temperature 0.5"),
        ({"token_filtering": False}, "no token filtering"),
        ({"freeze_after": 0}, "frozen from target 0 on"),
        ({"freeze_planner": True}, "frozen after the prompt"),
        ({"freeze_planner": True, "force_state": 0}, "plan state 0 is forced, frozen after the prompt"),
    ],
)
def test_every_intervention_is_said_to_be_a_causal_policy(plan: dict[str, Any], words: str) -> None:
    choice = choose_policy(model(V2Config), plan)
    assert choice.gate == "causal policy"
    assert choice.notice == f"Note: the gate is a causal policy ({words}), not the exact filter"
    assert choice.freeze_planner is bool(plan.get("freeze_planner"))


def test_a_control_has_no_plan_but_may_be_intervened_on() -> None:
    control = model(MixtureOfSoftmaxesConfig)
    assert choose_policy(control, {})[2:] == ("no plan", None)
    assert choose_policy(control, {"mode": "uniform"})[2:] == (
        "causal policy",
        "Note: the gate is a causal policy (all plan states weigh the same), not the model's own gate",
    )


@pytest.mark.parametrize("form", [V1Config, MixtureOfSoftmaxesConfig, TransformerLMConfig])
@pytest.mark.parametrize("name", V2_ONLY)
def test_what_only_v2_has_is_refused_by_option_whatever_its_value(form: Any, name: str) -> None:
    flag = PLAN_OPTIONS[name][0]
    with pytest.raises(click.UsageError) as error:
        choose_policy(model(form), {name: V2_ONLY[name]})
    version = form().version
    assert error.value.message == f"{flag} is not for {version}; it belongs to v2_planner_required"


@pytest.mark.parametrize(
    ("form", "plan", "message"),
    [
        (
            MixtureOfSoftmaxesConfig,
            {"freeze_planner": True},
            "--freeze-planner is not for mixture_of_softmaxes; it belongs to v2_planner_required, v1_filtered_mixture",
        ),
        (
            TransformerLMConfig,
            {"force_state": 0, "freeze_after": 1},
            "--force-state is not for transformer_lm; it belongs to v2_planner_required, v1_filtered_mixture, "
            "mixture_of_softmaxes; --freeze-after is not for transformer_lm; it belongs to v2_planner_required, "
            "v1_filtered_mixture",
        ),
        (V1Config, {"force_state": 8}, "--force-state must be between 0 and 7, got 8"),
        (
            V2Config,
            {"temperature": 0.0, "feedback_scale": 1.5, "lookahead_horizon": 0},
            "--planner-temperature must be between 1e-28 and 1e+28, got 0.0; "
            "--lookahead-horizon must be between 1 and 2^62, got 0; "
            "--lookahead-feedback-scale must be between 0 and 1, got 1.5",
        ),
        (
            V2Config,
            {"force_state": 0, "mode": "uniform"},
            "--force-state and --planner-mode uniform exclude each other",
        ),
    ],
)
def test_refusals_name_the_options(form: Any, plan: dict[str, Any], message: str) -> None:
    with pytest.raises(click.UsageError) as error:
        choose_policy(model(form), plan)
    assert error.value.message == message


def test_lookahead_is_beside_the_tokens_as_asked_or_as_the_config_says() -> None:
    for configured in (True, False):
        own = model(V2Config, async_planner=configured)
        assert choose_lookahead(own, 2, None) is configured
        assert choose_lookahead(own, 2, True) is True
        assert choose_lookahead(own, 2, False) is False
    assert choose_lookahead(model(V1Config), 2, None) is False
    assert choose_lookahead(model(TransformerLMConfig), 0, None) is False
    for form in (V2Config, V1Config, TransformerLMConfig):
        with pytest.raises(click.UsageError) as error:
            choose_lookahead(model(form), 0, True)
        assert error.value.message == (
            "--async-lookahead shows nothing without forecasts: give --lookahead-steps N too"
        )
        assert choose_lookahead(model(form), 0, False) is False
    with pytest.raises(click.UsageError) as error:
        choose_lookahead(model(TransformerLMConfig), 1, None)
    assert error.value.message == "--lookahead-steps is not for transformer_lm, which has no plan to foresee"


@pytest.mark.parametrize("prompted", [True, False])
def test_a_command_gets_its_plan_together(prompted: bool) -> None:
    got: dict[str, Any] = {}

    @click.command()
    @click.option("--other", type=int)
    @plan_options(prompted=prompted)
    def command(*, other: int, plan: dict[str, Any]) -> None:
        """Keep its help."""
        got.update(plan, other=other)

    freezing = ("--freeze-planner",) if prompted else ("--freeze-after", "5")
    arguments = ["--planner-mode", "uniform", "--planner-temperature", "0.5", "--lookahead-horizon", "2", *freezing]
    more = ["--force-state", "1", "--lookahead-feedback-scale", "0.1", "--no-token-filtering", "--other", "7"]
    command.main([*arguments, *more], standalone_mode=False)
    fields = {"mode": "uniform", "temperature": 0.5, "lookahead_horizon": 2, "feedback_scale": 0.1, "force_state": 1}
    frozen = {"freeze_planner": True} if prompted else {"freeze_after": 5}
    assert got == {**fields, **frozen, "token_filtering": False, "other": 7}
    command.main([], standalone_mode=False)
    assert set(got.values()) == ({None, False} if prompted else {None})
    assert command.help == "Keep its help."
    assert all(option.help for option in command.params if option.name != "other" and isinstance(option, click.Option))
