"""The options that say how the belief is used: one decorator for every command that has them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from apelr_cli.options import count

__all__ = ["PLAN_OPTIONS", "plan_options"]

PLAN_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "force_state": (
        "--force-state",
        {"type": count(0), "metavar": "K", "help": "Give all weight to plan state K (from 0)."},
    ),
    "freeze_after": (
        "--freeze-after",
        {
            "type": count(0),
            "metavar": "N",
            "help": "From target N (from 0) of each document on, neither tokens nor boundaries change the belief.",
        },
    ),
    "freeze_planner": (
        "--freeze-planner",
        {"is_flag": True, "help": "After the prompt neither tokens nor boundaries change the belief."},
    ),
    "mode": (
        "--planner-mode",
        {
            "type": click.Choice(["normal", "uniform"]),
            "help": "uniform switches the planner off: every plan state has the same weight. [default: normal]",
        },
    ),
    "temperature": (
        "--planner-temperature",
        {
            "type": float,
            "help": "V2: divides the log of the gate's weights; below 1 sharpens. [default: the model's]",
        },
    ),
    "lookahead_horizon": (
        "--lookahead-horizon",
        {
            "type": count(1),
            "help": "V2: chunks ahead whose forecasts are averaged for the gate. [default: the model's]",
        },
    ),
    "feedback_scale": (
        "--lookahead-feedback-scale",
        {"type": float, "help": "V2: share of those forecasts in the gate, 0 to 1. [default: the model's]"},
    ),
    "token_filtering": (
        "--no-token-filtering",
        {"flag_value": False, "default": None, "help": "V2: tokens do not change the belief; boundaries do."},
    ),
}
"""By field of `PlanPolicy` its option and that one's settings; `freeze_planner` is `freeze_after` after a prompt."""


def plan_options(*, prompted: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of `PLAN_OPTIONS`; it gets them together, as a dict `plan` of fields.

    None leaves a field as the model has it. Where there is a prompt the option to freeze is the flag
    `freeze_planner`, else `freeze_after`.
    """
    names = [name for name in PLAN_OPTIONS if name != ("freeze_after" if prompted else "freeze_planner")]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def bundled(**values: Any) -> Any:
            plan = {name: values.pop(f"plan_{name}") for name in names}
            return command(plan=plan, **values)

        decorated: Callable[..., Any] = bundled
        for name in reversed(names):
            flag, settings = PLAN_OPTIONS[name]
            decorated = click.option(flag, f"plan_{name}", **settings)(decorated)
        return decorated

    return decorate
