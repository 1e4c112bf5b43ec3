"""Rotary positions (Su et al. 2021): attention scores depend on how far apart two tokens are, not on where."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Rotary", "rotary", "rotate"]


class Rotary(NamedTuple):
    """The angles of a read's positions; P is B, or 1 where all rows stand at the same position."""

    cosine: Tensor
    """[P, 1, S, width / 2]"""
    sine: Tensor
    """[P, 1, S, width / 2]"""


def rotary(start: Tensor, steps: int, *, width: int, base: float, dtype: torch.dtype) -> Rotary:
    """start [P]: each row's first position -> cosines and sines [P, 1, S, width / 2] of the S positions from there.

    Position p turns pair i of a head by p * base^(-2i / width). Angles are computed in float64 (float32 on devices
    without it), so that they are as exact far into a stream as at its start.
    """
    exact = torch.float32 if start.device.type == "mps" else torch.float64
    pair = torch.arange(0, width, 2, device=start.device, dtype=exact)
    position = start.unsqueeze(1) + torch.arange(steps, device=start.device)
    angle = position.to(exact).unsqueeze(-1) * base ** (-pair / width)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    return Rotary(angle.cos().to(kept).unsqueeze(1), angle.sin().to(kept).unsqueeze(1))


def rotate(x: Tensor, angles: Rotary) -> Tensor:
    """x [B, H, S, width]: turn the pairs (x_i, x_{i + width / 2}) by their angles; same shape and type.

    Gradients of the first order only.
    """
    exact = x.to(angles.cosine.dtype)
    if not torch.is_grad_enabled():
        return _turned(exact, *angles, 1).to(x.dtype)
    turned: Tensor = _Rotate.apply(exact, *angles)  # type: ignore[no-untyped-call]
    return turned.to(x.dtype)


class _Rotate(torch.autograd.Function):
    """The gradient of a turn is the turn back: nothing but the angles is kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cosine, sine = ctx.saved_tensors
        return _turned(gradient, cosine, sine, -1), None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, sign: int) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    if torch.compiler.is_compiling():  # the compiler saves the memory itself, and refuses halves to write into
        return torch.cat([first * cosine - sign * second * sine, second * cosine + sign * first * sine], dim=-1)
    turned = torch.empty_like(x)
    of_first, of_second = turned.chunk(2, dim=-1)
    torch.mul(first, cosine, out=of_first).addcmul_(second, sine, value=-sign)
    torch.mul(second, cosine, out=of_second).addcmul_(first, sine, value=sign)
    return turned
