"""Checkpoint files of the prototype, by the rules of docs/checkpoints.md."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from apelr_model.config import V2Config
from apelr_model.errors import CheckpointError
from apelr_model.prototype_config import read_prototype_config
from apelr_model.prototype_tensors import check_prototype_tensors, join, model_parts, own_names
from apelr_model.prototype_training import read_training_state
from apelr_model.shown import shown_names

__all__ = ["RecordedTokenizer", "is_prototype", "read_prototype"]

SCHEMA_VERSIONS = (1, 2)
"""Values of `config_schema_version` that are known; the oldest files have none."""
KEYS: dict[str, tuple[type, ...]] = {
    "model_state_dict": (dict,),
    "model_config": (dict,),
    "tokenizer_path": (str, type(None)),
    "train_config": (dict, type(None)),
    "config_schema_version": (int,),
    "model_version": (str, type(None)),
    "optimizer_state_dict": (dict, type(None)),
    "global_step": (int,),
    "tokenizer_hash": (str, type(None)),
    "tokenizer_type": (str, type(None)),
    "tokenizer_config": (dict, type(None)),
    "distributed": (),
}
"""Every key that files of the prototype have had, and what it may hold; () is anything."""


class RecordedTokenizer(NamedTuple):
    """What a file says of the tokenizer that it does not carry."""

    path: str | None
    """Where it was on the machine that trained."""
    sha256: str | None
    """Of the tokenizer's file, in hexadecimal digits; the oldest checkpoints do not say."""


def is_prototype(content: object) -> bool:
    """Whether the content of a file has the prototype's form: its key for tensors, and no format of ours."""
    return isinstance(content, dict) and "model_state_dict" in content and "format" not in content


def read_prototype(content: Mapping[Any, Any], where: str, *, allow_unexpected: bool) -> dict[str, Any]:
    """The fields of a Checkpoint, from the content of a prototype's file.

    Raises CheckpointError with one line naming `where` and the key. With `allow_unexpected`, tensors that the model
    does not have are left out, with a notice.
    """
    _check_keys(content, where)
    found = read_prototype_config(content.get("model_version"), content["model_config"], where)
    state = content["model_state_dict"]
    names = own_names(state, where)
    by_name = dict(zip(names, state.values(), strict=True))
    tensors, notices = check_prototype_tensors(by_name, found, where, allow_unexpected=allow_unexpected)
    parameters = {
        part.name: join(part, [tensors[name] for name in part.sources], found.context_scale)
        for part in model_parts(found)
    }
    training, training_notices = read_training_state(content.get("optimizer_state_dict"), names, parameters, found)
    if isinstance(found.model, V2Config):
        parameters["planner.temperature"] = torch.tensor(found.model.planner_temperature)
    if ignored := [key for key in content if key not in KEYS]:
        notices = [f"keys that mean nothing here are ignored: {shown_names(ignored)}", *notices]
    return {
        "model_config": found.model,
        "vocab_size": found.vocab_size,
        "step": content.get("global_step", 0),
        "model": parameters,
        "training": training,
        "recorded_tokenizer": RecordedTokenizer(content.get("tokenizer_path"), content.get("tokenizer_hash")),
        "notices": tuple(f"{where}: {line}" for line in [*found.notices, *notices]),
        "training_notices": tuple(f"{where}: {line}" for line in training_notices),
    }


def _check_keys(content: Mapping[Any, Any], where: str) -> None:
    """The keys that must be there, and the types of all that are known."""
    if "model_config" not in content:
        raise CheckpointError(f"{where} has the form of the prototype's checkpoints but lacks the key 'model_config'")
    for key, types in KEYS.items():
        value = content.get(key)
        wrong = key in content and types and (not isinstance(value, types) or isinstance(value, bool))
        if wrong:
            expected = " or ".join("null" if each is type(None) else each.__name__ for each in types)
            raise CheckpointError(f"{where}: key {key!r} must be {expected}, got {type(value).__name__}")
    schema = content.get("config_schema_version", SCHEMA_VERSIONS[0])
    if schema not in SCHEMA_VERSIONS:
        known = " and ".join(map(str, SCHEMA_VERSIONS))
        raise CheckpointError(f"{where} has config_schema_version {schema}; those known are {known}")
    step = content.get("global_step", 0)
    if not 0 <= step < 2**62:
        raise CheckpointError(f"{where}: key 'global_step' must be between 0 and 2^62, got {step}")
