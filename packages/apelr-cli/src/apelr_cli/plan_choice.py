"""From the options about the planner to a policy that the model has, and what the output says of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import click

from apelr_cli.plan_options import PLAN_OPTIONS
from apelr_model import (
    MixtureOfSoftmaxesConfig,
    PlannerLM,
    PlanPolicy,
    TransformerLMConfig,
    V1Config,
    V2Config,
    policy_fields,
)

__all__ = ["PlanChoice", "check_has_chain", "choose_lookahead", "choose_policy", "has_chain"]


class PlanChoice(NamedTuple):
    """How a command uses the belief."""

    policy: PlanPolicy
    freeze_planner: bool
    """Whether the belief stays what it is at the end of the prompt."""
    gate: str
    """`exact filter`, `causal policy` (the same beliefs, used in another way), or `no plan` in a control."""
    notice: str | None
    """One line that says so where the gate is a causal policy."""


def choose_policy(model: PlannerLM, plan: Mapping[str, Any]) -> PlanChoice:
    """The model's own policy with what `plan` changes: the dict that `plan_options` gives a command.

    Raises click.UsageError in one line naming every option that is wrong or that the model has no use for.
    """
    freeze_planner = bool(plan.get("freeze_planner"))
    given = {name: value for name, value in plan.items() if value is not None and name != "freeze_planner"}
    if given.get("force_state") is not None and given.get("mode") == "uniform":
        raise click.UsageError("--force-state and --planner-mode uniform exclude each other")
    asked = [*given, "freeze_planner"] if freeze_planner else list(given)
    problems = [_foreign(model, name) for name in asked if _field(name) not in policy_fields(model.config)]
    if problems:
        raise click.UsageError("; ".join(problems))
    try:
        policy = model.check_policy(replace(model.policy, **given))
    except ValueError as error:
        lines = [line.partition(" ") for line in str(error).splitlines()]
        raise click.UsageError("; ".join(f"{_flag(name)} {rest}" for name, _, rest in lines)) from error
    changes = ", ".join(_changes(policy, freeze_planner=freeze_planner))
    chained = has_chain(model)
    own = "the exact filter" if chained else "the model's own gate"
    return PlanChoice(
        policy,
        freeze_planner,
        gate="causal policy" if changes else "exact filter" if chained else "no plan",
        notice=f"Note: the gate is a causal policy ({changes}), not {own}" if changes else None,
    )


def choose_lookahead(model: PlannerLM, steps: int, beside: bool | None) -> bool:
    """Whether forecasts of `steps` chunks are made beside the tokens: as asked, else as the model's config says.

    Raises click.UsageError where there is no chain of plans to look ahead with, and where forecasts beside the tokens
    are asked for and none are to be made.
    """
    if beside and not steps:
        raise click.UsageError("--async-lookahead shows nothing without forecasts: give --lookahead-steps N too")
    if steps and not has_chain(model):
        raise click.UsageError(f"--lookahead-steps is not for {model.config.version}, which has no plan to foresee")
    if beside is None:
        return isinstance(model.config, V2Config) and model.config.async_planner
    return beside


def check_has_chain(model: PlannerLM, option: str) -> None:
    """Raise click.UsageError where `option` needs a chain of plans, which the model has not."""
    if not has_chain(model):
        raise click.UsageError(f"{option} is not for {model.config.version}, which has no chain of plans")


def _changes(policy: PlanPolicy, *, freeze_planner: bool) -> Iterator[str]:
    """What sets a policy apart from the exact use of the belief, in words."""
    if policy.mode == "uniform":
        yield "all plan states weigh the same"
    if policy.force_state is not None:
        yield f"plan state {policy.force_state} is forced"
    if policy.temperature != 1:
        yield f"planner temperature {policy.temperature:g}"
    if policy.feedback_scale != 0:
        yield f"lookahead feedback {policy.feedback_scale:g}, horizon {policy.lookahead_horizon}"
    if not policy.token_filtering:
        yield "no token filtering"
    if policy.freeze_after is not None:
        yield f"frozen from target {policy.freeze_after} on"
    if freeze_planner:
        yield "frozen after the prompt"


def has_chain(model: PlannerLM) -> bool:
    """Whether the plan of a chunk depends on the one before it; in the controls it does not."""
    return "freeze_after" in policy_fields(model.config)


def _foreign(model: PlannerLM, name: str) -> str:
    forms = (V2Config, V1Config, MixtureOfSoftmaxesConfig, TransformerLMConfig)
    owners = [form.version for form in forms if _field(name) in policy_fields(form())]
    return f"{_flag(name)} is not for {model.config.version}; it belongs to {', '.join(owners)}"


def _field(name: str) -> str:
    """The field of `PlanPolicy` behind an option."""
    return "freeze_after" if name == "freeze_planner" else name


def _flag(name: str) -> str:
    """The option that sets a field of the policy."""
    return PLAN_OPTIONS[name][0]
