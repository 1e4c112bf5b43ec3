"""The optimizer and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from apelr_model.training_config import OptimConfig

__all__ = ["build_optimizer", "learning_rate"]

NOT_DECAYED = ("bias", "_logits", "plan_emb.weight", "plan_state_emb.weight")
"""How the names end of matrices that are biases (one row a plan state) or belong to the plan itself."""
OF_PLAN = ("plan_bias",)
"""How the names end of parameters outside the planner that learn at its rate: a factorized head's biases of the states.

Whatever else a head has for each state (maps of low rank, dense experts, V1's biases and embeddings) learns at `lr`."""


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
    """AdamW over all parameters that are trained; weight decay on matrices of networks, not on biases or plan logits.

    `config.fused_adamw` chooses between two forms of the same update: PyTorch's fused one, which reads and writes
    every tensor once, and its plain one, operation by operation. Each gives the same bits every time.
    A group's `lr_scale` is its share of the learning rate: the plan's parameters have `config.planner_lr_scale`.
    """
    parameters: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # a frozen base model's
            continue
        of_plan = name.startswith("planner.") or name.endswith(OF_PLAN)
        is_matrix = parameter.ndim >= 2 and not name.endswith(NOT_DECAYED)
        parameters.setdefault((of_plan, is_matrix), []).append(parameter)
    groups = [
        {
            "params": found,
            "weight_decay": config.weight_decay if is_matrix else 0.0,
            "lr_scale": config.planner_lr_scale if of_plan else 1.0,
        }
        for (of_plan, is_matrix), found in sorted(parameters.items())
    ]
    fused = config.fused_adamw
    # Where fused is false, PyTorch is left to choose between a loop over tensors and lists of them.
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=fused)
