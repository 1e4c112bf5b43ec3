"""Can a stored training state be restored: optimizer, loss scaler and random number generators."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from apelr_model.errors import CheckpointError
from apelr_model.plan_splits import PlanRecord, PlanSplits, SplitState
from apelr_model.plan_state import PlanState
from apelr_model.shown import shown, shown_names

__all__ = ["check_training_state", "read_carried_plan", "read_skipped", "read_splits"]

TRAINING_TYPES: dict[str, type] = {"optimizer": dict, "scaler": dict, "rng": dict}
"""What the training state must hold; a run may keep more beside it."""
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""What AdamW keeps of a parameter."""


def check_training_state(
    state: Mapping[str, Any], optimizer: torch.optim.Optimizer, scaler: Mapping[str, Any], where: str, *, with_rng: bool
) -> None:
    """Raise CheckpointError, naming `where` and the key, unless the state fits the optimizer and the scaler's own.

    RNG states may be absent unless they are needed (`with_rng`): a checkpoint of the prototype has none.
    """
    for key, kind in TRAINING_TYPES.items():
        needed = with_rng or key != "rng" or key in state
        if needed and not isinstance(state.get(key), kind):
            raise CheckpointError(f"{where}: the training state has no {key!r}")
    if "rng" in state:
        _check_rng(state["rng"], where)
    stored = state["scaler"]
    if stored and scaler and not all(type(stored.get(name)) is type(value) for name, value in scaler.items()):
        raise CheckpointError(f"{where}: the loss scaler's state does not fit")
    found, own = state["optimizer"], optimizer.state_dict()
    groups = [_parameters(part.get("param_groups")) for part in (found, own)]
    if groups[0] != groups[1]:
        raise CheckpointError(
            f"{where}: the optimizer's state is for parameter groups {shown(groups[0])}, not {shown(groups[1])}"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries = found.get("state")
    if not isinstance(entries, dict):
        raise CheckpointError(f"{where}: the optimizer has no 'state'")
    for index, moments in entries.items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise CheckpointError(
                f"{where}: the optimizer's state names a parameter {shown(index)}, which is not there"
            )
        _check_moments(moments, index, parameters[index], where)


def read_carried_plan(stored: object, like: PlanState, where: str) -> PlanState | None:
    """The plans that rows go on with, as a training state holds them; None where it holds none.

    Raises CheckpointError, naming `where`, unless they are those of a model whose state for one row is `like`.
    """
    if stored is None:
        return None
    found: list[Any] = [stored.get(name) for name in like._fields] if isinstance(stored, dict) else []
    fits = len(found) == len(like) and all(
        isinstance(one, Tensor)
        and one.dtype == other.dtype
        and one.shape[1:] == other.shape[1:]
        and len(one) == len(found[0])
        for one, other in zip(found, like, strict=True)
    )
    if not fits:
        raise CheckpointError(f"{where}: the plans that rows go on with do not fit the model")
    return PlanState(*found)


def read_splits(stored: object, own: PlanSplits | None, where: str) -> tuple[PlanRecord | None, SplitState] | None:
    """What a training state holds of the worth of plan states and of earlier splits; None where it holds nothing.

    Raises CheckpointError, naming `where`, unless it fits a trainer that has `own`.
    """
    if stored is None or own is None:
        return None
    count = len(own.state.tried)
    shapes = {"scores": (count, count), "usage": (count,), "twins": (count,), "tried": (count,)}
    types = {"scores": torch.float64, "usage": torch.float64, "twins": torch.int64, "tried": torch.bool}
    found = stored if isinstance(stored, dict) else {}
    fits = {"twins", "tried"} <= set(found) <= set(shapes) and ("scores" in found) == ("usage" in found)
    for name, value in found.items():
        fits = fits and isinstance(value, Tensor) and value.dtype == types[name] and tuple(value.shape) == shapes[name]
    fits = fits and bool(((found["twins"] >= -1) & (found["twins"] < count)).all())
    if fits and "usage" in found:
        shares, finite = found["usage"], bool(found["scores"].isfinite().all())
        fits = finite and bool((shares >= 0).all()) and abs(float(shares.sum()) - 1) < 1e-3
    if not fits:
        raise CheckpointError(f"{where}: what its plan states are worth does not fit the model")
    record = PlanRecord(found["scores"], found["usage"]) if "usage" in found else None
    return record, SplitState(found["twins"], found["tried"])


def read_skipped(stored: object, where: str) -> int:
    """How many steps in a row were skipped last. Raises CheckpointError, naming `where`, for anything but a count."""
    if type(stored) is not int or stored < 0:
        raise CheckpointError(f"{where}: the number of skipped steps must be a whole number >= 0, got {shown(stored)}")
    return stored


def _check_rng(stored: Mapping[Any, Any], where: str) -> None:
    others = stored.get("others", [])
    if not isinstance(others, list) or not all(map(_is_rng, [stored, *others])):
        raise CheckpointError(f"{where}: the training state's 'rng' is not a state of torch's generators")


def _is_rng(stored: object) -> bool:
    """Whether these are states of one process's generators."""
    if not isinstance(stored, Mapping):
        return False
    own, cpu, cuda = torch.get_rng_state(), stored.get("cpu"), stored.get("cuda")
    fits = isinstance(cpu, Tensor) and cpu.shape == own.shape and cpu.dtype == torch.uint8
    return fits and isinstance(cuda, list) and all(isinstance(each, Tensor) for each in cuda)


def _parameters(groups: object) -> list[list[int] | None]:
    """The numbers of the parameters of each group; None for what is no group."""
    listed = (
        [group.get("params") if isinstance(group, dict) else None for group in groups]
        if isinstance(groups, list)
        else []
    )
    return [each if isinstance(each, list) and all(type(n) is int for n in each) else None for each in listed]


def _check_moments(moments: object, index: int, parameter: Tensor, where: str) -> None:
    if not isinstance(moments, dict) or set(moments) != MOMENTS:
        names = shown_names(moments) if isinstance(moments, dict) else type(moments).__name__
        raise CheckpointError(f"{where}: the optimizer's state of parameter {index} must be its moments, got {names}")
    for name, moment in moments.items():
        shape = torch.Size() if name == "step" else parameter.shape
        fits = isinstance(moment, Tensor) and moment.shape == shape and moment.is_floating_point()
        if not fits or not bool(torch.isfinite(moment).all()) or (name != "exp_avg" and bool((moment < 0).any())):
            raise CheckpointError(f"{where}: the optimizer's {name} of parameter {index} does not fit")
