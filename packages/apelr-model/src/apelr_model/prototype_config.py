"""The prototype's `model_config`, turned into a configuration of today."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from apelr_model.config import V1Config, V2Config
from apelr_model.errors import CheckpointError
from apelr_model.plain_config import config_from_plain
from apelr_model.shown import shown, shown_names

__all__ = ["PROTOTYPE_VERSIONS", "PrototypeConfig", "read_prototype_config"]

PROTOTYPE_VERSIONS: dict[str, type[V1Config] | type[V2Config]] = {
    "v1_filtered_mixture": V1Config,
    "v2_planner_required": V2Config,
}
OLDEST_VERSION = "v1_filtered_mixture"
"""The version of files that name none."""
NEEDED = {
    V1Config: ("num_plan_states", "chunk_size", "token_dim", "hidden_dim", "fusion_dim", "num_layers"),
    V2Config: ("num_plan_states", "chunk_size", "token_dim", "hidden_dim", "num_layers"),
}
"""Sizes, for which no default could be right; `vocab_size` and `planner_context_scale` too."""
OTHERS = {
    V1Config: ("dropout", "planner_self_bias"),
    V2Config: (
        *("num_experts", "dropout", "planner_self_bias", "future_horizon_chunks", "planner_temperature"),
        *("token_filtering", "lookahead_horizon", "lookahead_feedback_scale", "async_planner"),
    ),
}
"""Fields that have the defaults of today where a file lacks them."""
LATER_V2 = ("lookahead_horizon", "lookahead_feedback_scale", "async_planner")
"""What files of V2's earlier revisions lack."""
NOT_USED = ("eps",)
"""The prototype added it inside logarithms; here nothing is added."""


class PrototypeConfig(NamedTuple):
    """What a file says of its model."""

    model: V1Config | V2Config
    """Today's configuration. V2's context scale is 1: the file's is in the weights that are made from its two sets."""
    vocab_size: int
    """V."""
    context_scale: float
    """The file's own `planner_context_scale`."""
    notices: list[str]
    """What a user should know, a line each."""


def read_prototype_config(version: object, values: Mapping[Any, Any], where: str) -> PrototypeConfig:
    """`model_config` of a file of that `model_version` (None: the oldest).

    Raises CheckpointError, naming `where` and the field, for an unknown version, missing fields, other types, and
    values that break a rule.
    """
    kind = _kind_of(OLDEST_VERSION if version is None else version, where)
    needed = ("vocab_size", "planner_context_scale", *NEEDED[kind])
    if missing := [f"model_config.{name}" for name in needed if name not in values]:
        raise CheckpointError(f"{where} lacks {', '.join(missing)}")
    known = {*needed, *OTHERS[kind], *NOT_USED}
    notices = []
    if unknown := [name for name in values if name not in known]:
        notices.append(f"fields of model_config that mean nothing here are ignored: {shown_names(unknown)}")
    given = {name: values[name] for name in (*needed, *OTHERS[kind]) if name in values}
    vocab_size = given.pop("vocab_size")
    if type(vocab_size) is not int or vocab_size < 2:
        raise CheckpointError(f"{where}: model_config.vocab_size must be an int >= 2, got {shown(vocab_size)}")
    if kind is V2Config:
        notices += _fill_v2(given)
    model = _built(kind, given, where)
    scale = float(model.planner_context_scale)
    if kind is V2Config:
        model = _built(kind, {**given, "planner_context_scale": 1.0}, where)
    return PrototypeConfig(model, vocab_size, scale, notices)


def _kind_of(version: object, where: str) -> type[V1Config] | type[V2Config]:
    known = ", ".join(PROTOTYPE_VERSIONS)
    if version == "transformer_lm":
        raise CheckpointError(
            f"{where} holds the prototype's transformer_lm, which is another network than the transformer_lm here "
            f"and cannot be read; versions of the prototype that can: {known}"
        )
    if not isinstance(version, str) or version not in PROTOTYPE_VERSIONS:
        raise CheckpointError(f"{where} has model version {shown(version)}; known versions of the prototype: {known}")
    return PROTOTYPE_VERSIONS[version]


def _fill_v2(given: dict[str, Any]) -> list[str]:
    """Give `given` what the prototype meant where our fields mean it otherwise; the notices of what was done."""
    notices = []
    if absent := [name for name in LATER_V2 if name not in given]:
        notices.append(
            f"it comes from an earlier revision of V2 (no {', '.join(absent)}), which was trained with another "
            "recursion: its training NLL is not reproduced"
        )
    for name, switch in (("lookahead_horizon", "lookahead_feedback_scale"), ("future_horizon_chunks", None)):
        if given.get(name) == 0 and type(given[name]) is int:  # the prototype's way of switching off
            given[name] = 1
            if switch:
                given[switch] = 0.0
            notices.append(f"{name} 0 is read as 1" + (f" with {switch} 0" if switch else ""))
    return notices


def _built(kind: type[V1Config] | type[V2Config], given: Mapping[str, Any], where: str) -> Any:
    try:
        return config_from_plain(kind, given, "model_config.")
    except ValueError as error:
        reason = str(error).replace("\n", "; ")
        raise CheckpointError(f"{where}: its model_config is not valid: {reason}") from error
