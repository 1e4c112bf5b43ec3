"""Which uses of the belief make sense in which model version."""

from dataclasses import fields

from apelr_model.config import MixtureOfSoftmaxesConfig, ModelConfig, V1Config, V2Config
from apelr_model.policy import EXACT, PlanPolicy

__all__ = ["check_policy", "policy_fields"]


def policy_fields(config: ModelConfig) -> frozenset[str]:
    """The fields of `PlanPolicy` that make sense in a model of that configuration."""
    if isinstance(config, V2Config):
        return ALL_FIELDS
    if isinstance(config, V1Config):
        return frozenset(("mode", "force_state", "freeze_after"))
    return frozenset(("mode", "force_state")) if isinstance(config, MixtureOfSoftmaxesConfig) else frozenset()


ALL_FIELDS = frozenset(each.name for each in fields(PlanPolicy))


def check_policy(policy: PlanPolicy, config: ModelConfig, num_plan_states: int) -> None:
    """Raise ValueError with a line for each field of the policy that the model does not have, or cannot obey."""
    foreign = [
        f"{config.version} has no {name}: it belongs to {_owners(name)}"
        for name in (each.name for each in fields(PlanPolicy))
        if getattr(policy, name) != getattr(EXACT, name) and name not in policy_fields(config)
    ]
    force = policy.force_state
    if force is not None and force >= num_plan_states:
        foreign.append(f"force_state must be between 0 and {num_plan_states - 1}, got {force}")
    if foreign:
        raise ValueError("\n".join(foreign))


def _owners(name: str) -> str:
    """The versions whose policy has that field, in words."""
    if name in ("mode", "force_state"):
        return "versions with plan states"
    return "v1_filtered_mixture and v2_planner_required" if name == "freeze_after" else "v2_planner_required"
