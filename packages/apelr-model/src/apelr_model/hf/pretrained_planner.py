"""A planner on top of an existing causal language model: made, kept in a folder, and read back."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from apelr_model.build import planner_and_head
from apelr_model.checkpoint_checks import compare_tensors
from apelr_model.config import V1Config, V2Config
from apelr_model.errors import CheckpointError
from apelr_model.head_factorized import FactorizedHead
from apelr_model.hf.pretrained_executor import PretrainedExecutor, differ, eval_mode
from apelr_model.plain_config import MODEL_VERSIONS, config_from_plain
from apelr_model.planner_lm import PlannerLM
from apelr_model.whole_folder import new_folder

__all__ = ["load_planner", "planner_on", "save_planner"]

FORMAT, FORMAT_VERSION = "apelr-planner", 1
DESCRIPTION, WEIGHTS, BASE = "planner.json", "planner.safetensors", "base"
EXECUTOR = "executor."


def planner_on(
    base: PreTrainedModel, config: V1Config | V2Config, *, freeze: bool = True, like_base: bool = False
) -> PlannerLM:
    """A planner and a head as `config` says, with fresh parameters, on the hidden states of `base`.

    Everything about the executor in `config` (widths, layers) is the base model's. With `like_base` a factorized head
    begins as the base model's own output layer, so that the model begins with its predictions. Raises ValueError for
    tied embeddings, for a base model that cannot be an executor (`PretrainedExecutor`), and where `like_base` cannot
    be: for another head, or a base model whose logits are not its output layer alone (scaled or capped ones).
    """
    if getattr(config, "tie_embeddings", False):
        raise ValueError("tie_embeddings must be false on a pretrained executor")
    executor = PretrainedExecutor(base, freeze=freeze)
    embedding = executor.token_emb.weight
    assert isinstance(embedding, nn.Parameter), "an embedding's weight is a parameter"
    config = replace(config, hidden_dim=executor.hidden_dim, token_dim=embedding.shape[1])
    planner, head = planner_and_head(config, executor.vocab_size, embedding)
    if like_base:
        output = base.get_output_embeddings()
        if not isinstance(head, FactorizedHead) or output is None:
            raise ValueError("like_base needs a factorized head and a base model with an output layer")
        _check_output(base, output)
        with torch.no_grad():
            head.weight.copy_(output.weight)
            head.bias.zero_() if output.bias is None else head.bias.copy_(output.bias)
    model = PlannerLM(config, executor.vocab_size, executor=executor, planner=planner, head=head)
    return model.to(base.device)


def _check_output(base: PreTrainedModel, output: nn.Module) -> None:
    """Raises ValueError where the logits are something else than the output layer makes of the last hidden state."""
    ids = torch.tensor([[0, 1]], device=base.device)
    with eval_mode(base):
        logits = base(input_ids=ids, use_cache=False).logits
        alone = output(base.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    if differ(logits, alone, base.dtype):
        raise ValueError(f"like_base cannot be: {type(base).__name__} does more to its logits than its output layer")


def save_planner(model: PlannerLM, folder: Path) -> None:
    """Write a model of `planner_on` into a new folder, complete or not at all: planner, head, and which base model.

    A frozen base model that was loaded by a name or path is named; any other is written too, into `base`. Raises
    ValueError for a model without a pretrained executor, FileExistsError where the folder exists, and OSError.
    """
    executor = model.executor
    if not isinstance(executor, PretrainedExecutor):
        raise ValueError(f"save_planner is for a planner on a pretrained executor, got {type(executor).__name__}")
    name = executor.base.name_or_path if executor.freeze else ""
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_config": asdict(model.config),
        "vocab_size": model.vocab_size,
        "freeze": executor.freeze,
        "base": name or None,
    }
    with new_folder(folder) as partial:
        save_file(_own_tensors(model), partial / WEIGHTS)
        if not name:
            executor.base.save_pretrained(partial / BASE)
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_planner(folder: Path, *, base: PreTrainedModel | None = None) -> PlannerLM:
    """The model that `save_planner` wrote; `base` is given where it is not to be loaded by its recorded name.

    Raises CheckpointError, naming what is wrong, for a folder that is none, and OSError where the base is not found.
    """
    description = _read_description(folder / DESCRIPTION)
    config = _read_config(description["model_config"], folder / DESCRIPTION)
    if base is None:
        base = AutoModelForCausalLM.from_pretrained(description["base"] or folder / BASE)
    model = planner_on(base, config, freeze=description["freeze"])
    if model.vocab_size != description["vocab_size"]:
        raise CheckpointError(f"{folder} needs a base model of {description['vocab_size']} ids, got {model.vocab_size}")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    compare_tensors(tensors, _own_tensors(model), str(folder / WEIGHTS))
    model.load_state_dict(tensors, strict=False)  # without the base's, which were compared above to be all the rest
    return model.eval()


def _own_tensors(model: PlannerLM) -> dict[str, Tensor]:
    """What is not the base model's."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(EXECUTOR)}


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: key 'format' must be {FORMAT!r}")
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: key 'format_version' must be {FORMAT_VERSION}: update apelr-model")
    types = {"model_config": dict, "vocab_size": int, "freeze": bool, "base": str | None}
    for key, kind in types.items():
        if not isinstance(content.get(key), kind):
            raise CheckpointError(f"{path}: key {key!r} is missing or of another type")
    return content


def _read_config(plain: dict[str, Any], path: Path) -> V1Config | V2Config:
    kind = MODEL_VERSIONS.get(str(plain.get("version")))
    if kind not in (V1Config, V2Config):
        raise CheckpointError(f"{path}: model_config.version must be that of a planner, got {plain.get('version')!r}")
    try:
        config: V1Config | V2Config = config_from_plain(kind, plain, "model_config.")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its model_config is not valid: {error}") from error
    return config
