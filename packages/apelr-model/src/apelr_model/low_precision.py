"""Weights in fewer bits, for inference: half or a quarter of the memory, and as much less to read for every token.

A weight so kept is expanded to float32 wherever it is used, so that everything a model does goes on as before. What
is gained in speed is gained in compiled decoding of one row, which expands it in registers (row_product.py).
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["WEIGHT_FORMS", "WeightForm", "keep_in", "kept_parts", "whole"]

WeightForm = Literal["bf16", "int8"]
WEIGHT_FORMS: tuple[WeightForm, ...] = get_args(WeightForm)
SMALLEST = 4096
"""Elements of the smallest matrix that is kept in fewer bits: smaller ones cost nothing to read."""


def whole(kept: Tensor, scale: Tensor | None = None) -> Tensor:
    """kept [N, D] in any type, scale [N, 1] -> the weight [N, D], in float32 where it was kept in fewer bits."""
    if scale is not None:
        return kept.float() * scale
    return kept.float() if kept.dtype == torch.bfloat16 else kept


def kept_parts(module: nn.Module, name: str) -> tuple[Tensor, ...]:
    """What `whole` makes the module's weight `name` from: one tensor, or two."""
    if not parametrize.is_parametrized(module, name):
        return (getattr(module, name),)
    kept = module.parametrizations[name]  # type: ignore[index]
    assert isinstance(kept, nn.Module)
    return tuple(kept.parameters(recurse=False))


class _BF16(nn.Module):
    """float32 <-> bfloat16, rounded to the nearest."""

    def forward(self, kept: Tensor) -> Tensor:
        """bfloat16 [N, D] -> float32 [N, D]."""
        return whole(kept)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        """float32 [N, D] -> bfloat16 [N, D]."""
        return (weight.bfloat16(),)


class _Int8(nn.Module):
    """float32 <-> whole numbers within +-127 and a scale for each row: the row's largest magnitude / 127."""

    def forward(self, kept: Tensor, scale: Tensor) -> Tensor:
        """int8 [N, D], scale [N, 1] -> float32 [N, D]."""
        return whole(kept, scale)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [N, D] -> int8 [N, D], scale [N, 1]."""
        scale = weight.abs().amax(1, keepdim=True) / 127
        scale = scale.masked_fill(scale == 0, 1.0)
        return (weight / scale).round().to(torch.int8), scale


def keep_in(form: WeightForm, *modules: nn.Module) -> None:
    """Keep every large matrix of the modules in `form`, and no gradient: embeddings, biases and norms stay as they are.

    Raises ValueError for another form, for weights that are not float32, and for weights kept so already.
    """
    if form not in WEIGHT_FORMS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHT_FORMS)}, got {form}")
    for part in {each: None for module in modules for each in module.modules()}:
        if isinstance(part, parametrize.ParametrizationList):
            raise ValueError("weights are kept in fewer bits already; load the checkpoint again for another form")
        part.requires_grad_(False)
        for name, weight in list(part.named_parameters(recurse=False)):
            if _is_matrix(part, name, weight):
                if weight.dtype != torch.float32:
                    raise ValueError(f"weights are kept in fewer bits from float32, got {weight.dtype}")
                kept = _BF16() if form == "bf16" else _Int8()
                parametrize.register_parametrization(part, name, kept, unsafe=True)


def _is_matrix(module: nn.Module, name: str, weight: Tensor) -> bool:
    """Is it a large matrix that vectors are multiplied by?"""
    return (
        weight.ndim == 2 and weight.numel() >= SMALLEST and "bias" not in name and not isinstance(module, nn.Embedding)
    )
