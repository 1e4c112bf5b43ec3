"""The optimizer and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from apelr_model.training_config import OptimConfig

__all__ = ["build_optimizer", "learning_rate"]

NOT_DECAYED = ("bias", "_logits", "plan_emb.weight", "plan_state_emb.weight")
"""How the names end of matrices that are biases (one row a plan state) or belong to the plan itself."""


def learning_rate(config: OptimConfig, step: int) -> float:
    """The learning rate of optimizer step `step` (0 is the first): linear warm-up, then the schedule.

    At `max_steps` and later, linear and cosine give `lr * min_lr_ratio`.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    if config.lr_schedule == "constant":
        return config.lr
    span = max(1, config.max_steps - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / span)
    falling = 1.0 - done if config.lr_schedule == "linear" else (1.0 + math.cos(math.pi * done)) / 2
    return config.lr * (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * falling)


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over all parameters; weight decay on matrices of networks, not on biases or the planner's logits."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and not name.endswith(NOT_DECAYED)
        (decayed if is_matrix else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95))
