"""Is a checkpoint's content what it says: keys, types, config, tensors and training state."""

import itertools
import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from apelr_model.build import build_model
from apelr_model.config import ModelConfig
from apelr_model.errors import CheckpointError, NonFiniteError
from apelr_model.plain_config import LARGEST_NUMBER, MODEL_VERSIONS, config_from_plain
from apelr_model.policy import temperature_rule
from apelr_model.shown import shown, shown_names
from apelr_model.tensor_tree import TensorPart

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "check_content",
    "check_finite",
    "check_tensor",
    "compare_tensors",
    "expected_tensors",
    "without_unexpected",
]

FORMAT = "apelr-checkpoint"
FORMAT_VERSION = 1
"""The newest file format this package reads, and the one it writes."""

CONTENT_TYPES: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "format_version": (int,),
    "model_version": (str,),
    "model_config": (dict,),
    "vocab_size": (int,),
    "step": (int,),
    "model": (dict,),
    "training": (dict, type(None)),
    "tokenizer": (str, type(None)),
    "tokenizer_fingerprint": (str, type(None)),
    "run_config": (dict,),
    "versions": (dict,),
}
"""Every key of a file and what it may hold."""


NUMBERS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""What parameters may be made of."""
IMPOSSIBLE = re.compile(
    r"planner\.(initial|transition)_logits|head\.(bias|out_proj\.bias|plan_vocab_bias)"
    r"|planner_(init|transition)_logits|out_proj\.bias|plan_vocab_bias|expert_heads\.\d+\.bias"
)
"""Tensors whose numbers may be minus infinity, a probability of zero: of today's model, then of the prototype's."""
TEMPERATURE = "planner.temperature"
CONTAINERS = (dict, list, tuple)
DEEPEST, MOST_VALUES = 64, 1_000_000
"""Bounds on plain data: how deep it is nested, and how many values it has, those in several places counted in each."""


def check_content(content: object, where: str) -> tuple[ModelConfig, dict[str, Any]]:
    """The model's config and the other values of a file. Raises CheckpointError naming `where` and the key."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{where} is not an APEL-R checkpoint: it has no key 'format' of value {FORMAT!r}")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has checkpoint format {version}, newer than this installation reads "
            f"({FORMAT_VERSION}): update apelr-model"
        )
    if isinstance(version, int) and version < 1:
        raise CheckpointError(f"{where} has checkpoint format {version}, which has never existed")
    for key, types in CONTENT_TYPES.items():
        if key not in content:
            raise CheckpointError(f"{where} lacks the key {key!r}")
        if not isinstance(content[key], types) or isinstance(content[key], bool):
            expected = " or ".join(t.__name__ for t in types)
            raise CheckpointError(f"{where}: key {key!r} must be {expected}, got {type(content[key]).__name__}")
    if extra := set(content) - set(CONTENT_TYPES):
        raise CheckpointError(f"{where} has unknown keys: {shown_names(extra)}")
    if content["step"] < 0:
        raise CheckpointError(f"{where}: key 'step' must be >= 0, got {shown(content['step'])}")
    for key in ("step", "vocab_size"):
        if content[key] > LARGEST_NUMBER:
            raise CheckpointError(f"{where}: key {key!r} must be at most 2^62, got {shown(content[key])}")
    for key in ("model_config", "run_config", "versions", "training"):
        check_plain(content[key], f"{where}: key {key!r}", tensors=key == "training")
    if content["model_version"] not in MODEL_VERSIONS:
        known = ", ".join(MODEL_VERSIONS)
        raise CheckpointError(f"{where} has model version {shown(content['model_version'])}; known versions: {known}")
    config = _read_config(MODEL_VERSIONS[content["model_version"]], content["model_config"], where)
    kept = {k: v for k, v in content.items() if k not in ("format", "format_version", "model_version", "model_config")}
    return config, kept


def _read_config(kind: type[ModelConfig], values: dict[str, Any], where: str) -> ModelConfig:
    """The config of a file. Its fields' types are checked: nothing has coerced them."""
    try:
        config: ModelConfig = config_from_plain(kind, values, "model_config.")
    except (TypeError, ValueError) as error:
        reason = str(error).replace("\n", "; ")
        raise CheckpointError(f"{where}: its model_config is not valid: {reason}") from error
    return config


def expected_tensors(config: ModelConfig, vocab_size: int, available: int, where: str) -> dict[str, Tensor]:
    """The tensors that a config asks for, on the meta device: no memory is taken.

    `available` tensors are there to fill them; a config that needs far more is refused before it is built.
    """
    if config.num_layers > available:  # even without memory, building that many would take for ever
        raise CheckpointError(f"{where} holds {available} tensors, too few for num_layers {config.num_layers}")
    try:
        with torch.device("meta"):
            return build_model(config, vocab_size).state_dict()
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{where}: its model_config cannot be built: {error}".splitlines()[0]) from error


def compare_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError, naming `where` and the tensors, unless both have the same names and shapes.

    What is found must also be numbers as `check_tensor` has them.
    """
    if missing := set(expected) - set(found):
        raise CheckpointError(f"{where} lacks the tensors {shown_names(missing)}")
    if extra := set(found) - set(expected):
        raise CheckpointError(f"{where} has unknown tensors {shown_names(extra)}")
    for name, wanted in expected.items():
        check_tensor(name, found[name], wanted.shape, where)


def check_tensor(name: str, tensor: object, shape: Sequence[int], where: str, *, whole: bool = True) -> None:
    """Raise CheckpointError, naming `where` and the tensor, unless it has that shape and is made of usable numbers.

    These are dense floating-point numbers (a view could declare more than its file holds), none NaN or infinite; but a
    planner's logits and a head's biases may hold minus infinity, never a whole row of it (of a tensor that is `whole`).
    A temperature must be one.
    """
    if not isinstance(tensor, Tensor) or tensor.shape != torch.Size(shape):
        found = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise CheckpointError(f"{where}: tensor {name} has shape {found}, the config needs {list(shape)}")
    if not (tensor.dtype in NUMBERS and tensor.layout == torch.strided and tensor.is_contiguous()):
        raise CheckpointError(f"{where}: tensor {name} is not a dense tensor of floating-point numbers")
    if bool(tensor.isnan().any() or tensor.isposinf().any()):
        raise CheckpointError(f"{where}: tensor {name} holds NaN or plus infinity")
    if bool(tensor.isneginf().any()):
        if not IMPOSSIBLE.fullmatch(name):
            raise CheckpointError(
                f"{where}: tensor {name} holds minus infinity, which only a planner's logits and a head's biases may"
            )
        if whole and bool(tensor.isneginf().all(-1).any()):
            raise CheckpointError(f"{where}: tensor {name} has a row of minus infinity alone: it leaves no choice")
    if name == TEMPERATURE:
        _, value, rule, holds = temperature_rule(name, float(tensor))
        if not holds:
            raise CheckpointError(f"{where}: tensor {name} must be {rule}, got {value!r}")


def check_finite(model: Mapping[str, Tensor | TensorPart], training: object, where: str) -> None:
    """Raise NonFiniteError, naming `where` and the tensor, for numbers that no checkpoint may hold.

    In the model those that could not be read again; in the state of training NaN and plus infinity. A belief may hold
    minus infinity. Of a part of a tensor the rows that are here are looked at.
    """
    for name, tensor in model.items():
        whole = isinstance(tensor, Tensor)
        rows = tensor if isinstance(tensor, Tensor) else tensor.rows
        try:
            check_tensor(name, rows, rows.shape, where, whole=whole)
        except CheckpointError as error:
            raise NonFiniteError(str(error)) from error
    left = [("training", training)]
    while left:
        name, value = left.pop()
        value = value.rows if isinstance(value, TensorPart) else value
        if isinstance(value, dict | list):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            left.extend((f"{name}.{key}", each) for key, each in pairs)
        elif isinstance(value, Tensor) and bool(value.isnan().any() or value.isposinf().any()):
            raise NonFiniteError(f"{where}: {name} holds NaN or plus infinity")


def check_plain(value: object, where: str, *, tensors: bool = False) -> None:
    """Raise CheckpointError unless `value` is text, numbers, lists, dicts (and `tensors`), and can be walked through.

    A list may stand in several places, even in itself: so a small file could hold more than anything can walk through.
    """
    kinds = (str, int, float, NoneType, Tensor) if tensors else (str, int, float, NoneType)
    level, seen = [value], 0
    for _ in range(DEEPEST):
        seen += len(level)
        if seen > MOST_VALUES or not level:
            break
        for each in level:
            if not isinstance(each, (dict, list, tuple, *kinds)):
                raise CheckpointError(f"{where} must hold plain data, got {type(each).__name__}")
        below = [each.items() if isinstance(each, dict) else each for each in level if isinstance(each, CONTAINERS)]
        level = list(itertools.islice(itertools.chain.from_iterable(below), MOST_VALUES + 1))
    if level:
        raise CheckpointError(f"{where} is nested too deeply or is too large")


def without_unexpected(config: ModelConfig, values: dict[str, Any], where: str) -> dict[str, Any]:
    """Of a file's values, to replace them: the tensors that the model has, and a notice of those that it has not."""
    expected = expected_tensors(config, values["vocab_size"], len(values["model"]), where)
    unexpected = [name for name in values["model"] if name not in expected]
    if not unexpected:
        return {}
    kept = {name: tensor for name, tensor in values["model"].items() if name in expected}
    return {"model": kept, "notices": (f"{where}: unexpected tensors are left out: {shown_names(unexpected)}",)}
