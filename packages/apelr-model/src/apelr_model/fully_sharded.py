"""Parameters, gradients and moments divided between processes (PyTorch's FSDP2): each holds a run of every one's rows.

A layer of a transformer is gathered before it is used, forwards and backwards, and let go again. All else (embedding,
last norm, planner, head; a GRU as a whole) is gathered for a micro-batch from its first use to the end of its backward
pass: head and planner give their weights to functions of our own, which must find them whole.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from apelr_model.build import build_model
from apelr_model.planner_lm import PlannerLM
from apelr_model.step_loss import StepLoss
from apelr_model.tensor_tree import TensorPart
from apelr_model.training_config import OptimConfig
from apelr_model.transformer import TransformerLayer
from apelr_model.world import World

__all__ = ["gathered_model", "own_parts", "shard", "sharded_like", "whole_norm"]


def _check_shardable(optim: OptimConfig) -> None:
    """Raise ValueError, with one line, for what cannot be done with parameters that are divided."""
    refused = {
        "compile": (optim.compile, "false: compiled layers would not gather their weights"),
        "split_interval": (optim.split_interval, "0: splits of plan states need whole parameters"),
        "skip_non_finite": (optim.skip_non_finite, "0: a forward pass that has failed cannot be taken back"),
        "precision": (optim.precision == "fp16", "fp32 or bf16: the loss scaler needs whole gradients"),
    }
    for name, (asked, rule) in refused.items():
        if asked:
            raise ValueError(f"with sharded parameters {name} must be {rule}")


def shard(module: StepLoss, world: World, optim: OptimConfig) -> None:
    """Divide the module's parameters, in place; gradients are summed. The same in all processes before and after.

    Raises ValueError for what cannot be done then.
    """
    _check_shardable(optim)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(module.model.device.type, (world.size,))
    for layer in [each for each in module.modules() if isinstance(each, TransformerLayer)]:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for each in module.modules():
        if isinstance(each, FSDPModule):
            each.set_force_sum_reduction_for_comms(True)
            each.set_gradient_divide_factor(1.0)  # each loss is its part of the whole batch's mean
    module.complete = partial(_with_all_gradients, module, world)


def _with_all_gradients(module: StepLoss, world: World, loss: Tensor) -> Tensor:
    """The loss, with a gradient of zero for each parameter that has one in another process alone.

    Gradients are summed together, so all processes must have them of the same parameters; rows that are shorter than a
    chunk, for example, use no transition. The layers', which are let go already, all rows use.
    """
    from torch.distributed.tensor import DTensor

    parameters = [each for each in module.parameters() if not isinstance(each, DTensor)]
    used = _reached_from(loss)
    found = torch.tensor([id(parameter) in used for parameter in parameters]).int()
    missed = (world.total(found) > 0) & (found == 0)
    for parameter, is_missed in zip(parameters, missed.tolist(), strict=True):
        if is_missed:
            loss = loss + 0 * parameter.flatten()[0]
    return loss


def _reached_from(loss: Tensor) -> set[int]:
    """The `id` of every leaf that the loss has a gradient of."""
    left, seen, leaves = [loss.grad_fn], {None, loss.grad_fn}, set()
    while left:
        node = left.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        for after, _ in node.next_functions:
            if after not in seen:
                seen.add(after)
                left.append(after)
    return leaves


def own_parts(tree: Any) -> Any:
    """A tree with a `TensorPart` in place of each tensor that is divided."""
    from torch.distributed.tensor import DTensor

    if isinstance(tree, DTensor):
        rows = tree.to_local().detach()
        return TensorPart(rows, _share(tree)[0], tuple(tree.shape))
    if isinstance(tree, Mapping):
        return {key: own_parts(each) for key, each in tree.items()}
    return [own_parts(each) for each in tree] if isinstance(tree, list) else tree


def sharded_like(whole: Tensor, like: Tensor) -> Tensor:
    """whole [...], like [...] -> the same divided as `like` is, of which this process has its rows; or as it is."""
    from torch.distributed.tensor import DTensor

    if not isinstance(like, DTensor):
        return whole
    first, end = _share(like)
    rows = whole[first:end].to(like.device, like.dtype).contiguous()
    return DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def _share(tensor: Any) -> tuple[int, int]:
    """The rows that this process has of a divided tensor: as many as each other's, the last ones' maybe fewer."""
    mesh, rows = tensor.device_mesh, tensor.shape[0]
    each = -(-rows // mesh.size())
    return min(each * mesh.get_local_rank(), rows), min(each * (mesh.get_local_rank() + 1), rows)


def whole_norm(norm: Tensor) -> Tensor:
    """norm [...] of divided gradients, which PyTorch leaves in parts -> [...] as every process has it."""
    from torch.distributed.tensor import DTensor

    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def gathered_model(model: PlannerLM) -> PlannerLM:
    """A model with whole parameters of its own, for use without gradients; all processes call this and get the same."""
    from torch.distributed.tensor import DTensor

    parameter = next(model.parameters())
    with torch.device("meta"):
        whole = build_model(model.config, model.vocab_size).to(parameter.dtype)
    whole.to_empty(device=parameter.device)
    own = whole.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            own[name].copy_(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)
    return whole.requires_grad_(False)
