"""What run.json says of a run: the machine and the versions, the model's size, the text."""

from collections.abc import Mapping
from typing import Any

from apelr_cli.run_config import RunConfig
from apelr_cli.run_folder import environment
from apelr_cli.training_data import TrainingData
from apelr_model import Trainer, count_costs

__all__ = ["describe_part", "describe_start"]


def describe_part(trainer: Trainer) -> dict[str, Any]:
    """Of each part of a run, from its start or from where it is taken up: where and how it runs."""
    return {**environment(), "device": str(trainer.model.device), "processes": trainer.world.size}


def describe_start(config: RunConfig, trainer: Trainer, data: TrainingData) -> dict[str, Any]:
    """Of a new run."""
    costs = count_costs(trainer.model, config.train.seq_len)
    return {
        **describe_part(trainer),
        "seed": config.seed,
        "first_step": trainer.step,
        "parameters": _with_total(costs.parameters),
        "flops_per_token": _with_total(costs.flops_per_token),
        "vocab_size": trainer.model.vocab_size,
        "data": data.identity(),
        "text": data.text_report(),
    }


def _with_total(parts: Mapping[str, float]) -> dict[str, float]:
    return {"total": sum(parts.values()), **parts}
