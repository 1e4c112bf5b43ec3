"""A layer of `torch.nn.GRU` over a whole sequence, with the gradients of its weights as one product each.

PyTorch's own form on CPUs adds to the gradient of the recurrent weight after every step, which moves the whole matrix
through memory three times a step. Here the way back keeps what every step received, and multiplies once at the end.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout

from apelr_model.row_product import product

__all__ = ["GRU_PARTS", "gru_sequence", "gru_step"]

GRU_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""The parameters of a layer."""


def gru_sequence(gru: nn.GRU, inputs: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """gru (batch_first, one direction), inputs [B, T, I], start [layers, B, H] -> what the module gives, to rounding.

    Hidden states [B, T, H] and the last of each layer [layers, B, H]. Gradients of the first order only.
    """
    below, last = inputs.transpose(0, 1), []
    for layer in range(gru.num_layers):
        names = (f"{part}_l{layer}" for part in GRU_PARTS)
        below = _Layer.apply(below, start[layer], *(getattr(gru, name) for name in names))  # type: ignore[no-untyped-call]
        last.append(below[-1])
        if layer + 1 < gru.num_layers:
            below = dropout(below, gru.dropout, gru.training)
    return below.transpose(0, 1), torch.stack(last)


def gru_step(inputs: Tensor, state: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor) -> Tensor:
    """inputs [B, I], state [B, H], a layer's `GRU_PARTS` -> the state after them [B, H]: one step, to be compiled."""
    of_inputs = product(inputs, w_in, b_in).chunk(3, dim=-1)
    of_state = product(state, w_state, b_state).chunk(3, dim=-1)
    reset, update = (torch.sigmoid(a + b) for a, b in zip(of_inputs[:2], of_state[:2], strict=True))
    fresh = torch.tanh(of_inputs[2] + reset * of_state[2])
    return fresh + update * (state - fresh)


class _Layer(torch.autograd.Function):
    """r, z = sigmoid(W_i x + b_i + W_h h + b_h), n = tanh(W_in x + b_in + r m) with m = W_hn h + b_hn,
    h' = n + z (h - n); x [T, B, I], h [B, H] -> all h' [T, B, H]."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, start: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor
    ) -> Tensor:
        steps, batch, _ = inputs.shape
        width = start.shape[-1]
        gates = torch.addmm(b_in, inputs.reshape(steps * batch, -1), w_in.T).view(steps, batch, 3 * width)
        read = torch.empty_like(gates)  # of the state: r, z and m
        states = gates.new_empty(steps + 1, batch, width)
        states[0] = start
        back = w_state.T
        parts = zip(gates.unbind(0), read.unbind(0), states[:-1].unbind(0), states[1:].unbind(0), strict=True)
        for gate, of_state, before, after in parts:
            torch.addmm(b_state, before, back, out=of_state)
            both = of_state[:, : 2 * width].add_(gate[:, : 2 * width]).sigmoid_()
            reset, update = both.chunk(2, dim=-1)
            new = gate[:, 2 * width :].addcmul_(reset, of_state[:, 2 * width :]).tanh_()
            torch.lerp(new, before, update, out=after)
        ctx.save_for_backward(inputs, states, read, gates[..., 2 * width :], w_in, w_state)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        inputs, states, read, new, w_in, w_state = ctx.saved_tensors
        reset, update, memory = read.chunk(3, dim=-1)
        of_new = (1 - update) * (1 - new * new)  # d h' / d (argument of tanh)
        slopes = torch.stack(  # d h' / d (arguments of r and z, and m)
            [
                of_new * memory * reset * (1 - reset),
                (states[:-1] - new) * update * (1 - update),
                of_new * reset,
            ],
            dim=2,
        )
        received = gradient.clone(memory_format=torch.contiguous_format)  # completed below, last step first
        of_read = torch.empty_like(slopes)  # [T, B, 3, H]
        for step in range(len(received) - 1, -1, -1):
            torch.mul(received[step].unsqueeze(1), slopes[step], out=of_read[step])
            carried = received[step] * update[step]
            before = carried.addmm_(of_read[step].flatten(1), w_state)
            if step:
                received[step - 1] += before
        of_gates = of_read.clone()
        torch.mul(received, of_new, out=of_gates[:, :, 2])
        flat_read, flat_gates = of_read.view(-1, w_state.shape[0]), of_gates.view(-1, w_state.shape[0])
        of_inputs = (flat_gates @ w_in).view_as(inputs)
        of_w_in = flat_gates.T @ inputs.reshape(len(flat_gates), -1)
        of_w_state = flat_read.T @ states[:-1].reshape(len(flat_read), -1)
        return of_inputs, before, of_w_in, of_w_state, flat_gates.sum(0), flat_read.sum(0)
