"""Rotary positions (Su et al. 2021): attention scores depend on how far apart two tokens are, not on where."""

from typing import NamedTuple

import torch
from torch import Tensor

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
    """x [B, H, S, width]: turn the pairs (x_i, x_{i + width / 2}) by their angles; same shape and type."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = angles
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)
