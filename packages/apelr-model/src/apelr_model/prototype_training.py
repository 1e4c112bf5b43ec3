"""The prototype's optimizer state, turned into a training state of today as far as it fits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from apelr_model.build import build_model
from apelr_model.optim import build_optimizer
from apelr_model.prototype_config import PrototypeConfig
from apelr_model.prototype_tensors import Part, join, model_parts
from apelr_model.shown import shown_names
from apelr_model.training_config import OptimConfig

__all__ = ["read_training_state"]

MOMENTS = ("exp_avg", "exp_avg_sq")


def read_training_state(
    optimizer_state: Mapping[Any, Any] | None,
    names: Sequence[str],
    parameters: Mapping[str, Tensor],
    found: PrototypeConfig,
) -> tuple[dict[str, Any], list[str]]:
    """The training state of a checkpoint, without RNG states, and notices of what did not fit.

    Entry i of `optimizer_state` belongs to the tensor `names[i]` of the file; `parameters` are those of today.
    """
    with torch.device("meta"):
        model = build_model(found.model, found.vocab_size)
        optimizer = build_optimizer(model, OptimConfig(fused_adamw=False))  # there is no fused form without memory
    names_of = {id(parameter): name for name, parameter in model.named_parameters()}
    order = [names_of[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    entries = optimizer_state.get("state") if optimizer_state is not None else None
    kept: dict[str, dict[str, Any]] = {}
    if isinstance(entries, Mapping):
        index = {name: number for number, name in enumerate(names)}
        for part in model_parts(found):
            moments = _moments(part, [entries.get(index.get(name)) for name in part.sources], parameters[part.name])
            if moments is not None:
                kept[part.name] = moments
    state = {number: kept[name] for number, name in enumerate(order) if name in kept}
    training = {"optimizer": {**optimizer.state_dict(), "state": state}, "scaler": {}}
    return training, _notices(optimizer_state, [name for name in order if name not in kept])


def _moments(part: Part, entries: Sequence[Any], parameter: Tensor) -> dict[str, Any] | None:
    """The moments of a parameter; None where a source has none, or they do not fit."""
    if part.how == "evidence" or not all(isinstance(entry, Mapping) for entry in entries):
        return None
    steps = [_step(entry.get("step")) for entry in entries]
    if steps[0] is None or len(set(steps)) > 1:
        return None
    moments: dict[str, Any] = {"step": torch.tensor(steps[0])}
    for name in MOMENTS:
        tensors = [entry.get(name) for entry in entries]
        if not all(_is_plain(tensor) for tensor in tensors):
            return None
        if len({tensor.shape for tensor in tensors}) > 1:
            return None
        moment = join(part, tensors, 1.0)
        if moment.shape != parameter.shape or not bool(torch.isfinite(moment).all()):
            return None
        moments[name] = moment.to(parameter.dtype)
    return moments if bool((moments["exp_avg_sq"] >= 0).all()) else None


def _step(value: object) -> float | None:
    """The number of steps that moments have seen: a number, or a tensor of one."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 < value < 2**62 else None


def _is_plain(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.is_floating_point()


def _notices(optimizer_state: Mapping[Any, Any] | None, fresh: Sequence[str]) -> list[str]:
    notices = ["random number generators start afresh: the prototype did not save their states"]
    if optimizer_state is None:
        return [*notices, "the file holds no optimizer state: the optimizer starts afresh"]
    if fresh:
        notices.append(f"the optimizer starts afresh for what its stored state does not fit: {shown_names(fresh)}")
    return notices
