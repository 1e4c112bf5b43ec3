"""The executor: reads token ids and gives a hidden state for every position read."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from apelr_model.fixed_carry import FixedCarry
from apelr_model.gru_sequence import GRU_PARTS, gru_sequence, gru_step
from apelr_model.low_precision import kept_parts, whole
from apelr_model.plain_forms import fast_forms

__all__ = ["Carry", "Executor", "GRUExecutor"]

Carry = Any
"""What an executor keeps of the ids it has read. Only the executor that made it looks inside."""


class Executor(nn.Module, ABC):
    """What a planner needs from a network that reads tokens: whole sequences, and steps with a carry.

    To use a network of one's own, subclass this and hand it to `PlannerLM`. Reading in pieces, handing the carry
    on, must equal reading at once; `docs/executors.md` has an example and says how to test one.
    """

    hidden_dim: int
    """D, width of the hidden states."""
    token_emb: nn.Embedding
    """[V, E] the embedding of the ids, which heads with tied weights share."""

    @property
    def reach(self) -> int | None:
        """How many ids, the newest included, can influence a hidden state; None where there is no bound."""
        return None

    @abstractmethod
    def initial_carry(self, batch_size: int) -> Carry:
        """The carry of `batch_size` sequences of which nothing has been read."""

    @abstractmethod
    def forward(
        self, ids: Tensor, carry: Carry, lengths: Tensor | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """ids [B, S], carry, lengths [B], restarts [B, S] -> hidden [B, S, D], and the carry of what was read.

        `hidden[:, t]` depends on `ids[:, : t + 1]` and the carry alone. `lengths` is for right-padded rows (default:
        all of S; 0 is allowed): only each row's first `lengths` ids are read, and the hidden states after them mean
        nothing. Where `restarts` is true, reading begins afresh just before that id: neither it nor any later one
        sees what came before. A carry that was handed in stays valid: one may go on from it twice.
        With None for a carry the rows begin here and nothing is kept: the carry that comes back is None.
        """

    @abstractmethod
    def select_rows(self, carry: Carry, rows: Tensor) -> Carry:
        """The carry of the given rows [N] of the batch (integers, repeats allowed), in that order."""

    def compile_training(self) -> None:
        """From now on, run what training reads through `torch.compile`: the same values but for rounding.

        Reading without gradients, or with a carry, goes on as before: every new shape of it would be compiled anew.
        Raises ValueError where nothing would be gained.
        """
        raise ValueError(
            f"compile true is for transformer executors: PyTorch compiles nothing of a {type(self).__name__}"
        )

    def fixed_carry(self, carry: Carry, *, batch_size: int, room: int) -> FixedCarry:
        """The carry of `batch_size` sequences in fixed shapes, for `fixed_step` to read up to `room` more ids.

        A carry that has fixed shapes already, whose room is used up, is given more.
        Raises ValueError in an executor that has no such form, which then cannot be compiled for decoding.
        """
        raise ValueError(f"{type(self).__name__} cannot be compiled for decoding: it has no carry in fixed shapes")

    def fixed_step(self, ids: Tensor, carry: FixedCarry) -> Tensor:
        """ids [B] read after what `carry` holds, into which they are written -> hidden [B, D]: `forward` of one id."""
        raise NotImplementedError(f"{type(self).__name__} gives no carry in fixed shapes")

    @abstractmethod
    def flops_per_token(self, context: int) -> int:
        """Floating-point operations of the forward pass for one token that sees `context` ids, itself included.

        A multiplication and an addition count as two; matrix products alone are counted.
        """

    def mean_flops_per_token(self, targets: int) -> float:
        """`flops_per_token` on average over a row that is read from its start, whose t-th token sees t ids."""
        return sum(self.flops_per_token(t) for t in range(1, targets + 1)) / targets


class GRUExecutor(Executor):
    """A token embedding and a multi-layer gated recurrent unit (`torch.nn.GRU`)."""

    def __init__(self, *, vocab_size: int, token_dim: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.token_emb = nn.Embedding(vocab_size, token_dim)
        between = dropout if num_layers > 1 else 0.0
        self.gru = nn.GRU(token_dim, hidden_dim, num_layers, batch_first=True, dropout=between)

    def initial_carry(self, batch_size: int) -> Tensor:
        """Zeros [layers, B, D]."""
        return self.token_emb.weight.new_zeros(self.gru.num_layers, batch_size, self.hidden_dim)

    def forward(
        self, ids: Tensor, carry: Carry, lengths: Tensor | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """ids [B, S], carry [layers, B, D], lengths [B], restarts [B, S] -> hidden [B, S, D], carry [layers, B, D]."""
        start = self.initial_carry(len(ids)) if carry is None else carry
        if lengths is None and restarts is None:
            embedded = self.token_emb(ids)
            read = gru_sequence if _trains_on_cpu(embedded) and fast_forms() else nn.GRU.__call__
            hidden, after = read(self.gru, embedded, start)
        else:
            hidden, after = self._read_segments(ids, start, lengths, restarts)
        return hidden, None if carry is None else after

    def _read_segments(
        self, ids: Tensor, carry: Tensor, lengths: Tensor | None, restarts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Read every stretch between restarts as a packed row of its own. Hidden states of padding are zeros."""
        batch, steps = ids.shape
        ends = ids.new_full((batch,), steps) if lengths is None else lengths
        afresh = torch.zeros_like(ids, dtype=torch.bool) if restarts is None else restarts
        columns = torch.arange(steps, device=ids.device)
        begins = (afresh | (columns == 0)) & (columns < ends.unsqueeze(1))
        row, first = begins.nonzero(as_tuple=True)  # in order of rows, and of columns in a row
        if len(row) == 0:
            return carry.new_zeros(batch, steps, self.hidden_dim), carry
        is_last = torch.cat([row[1:] != row[:-1], row.new_ones(1, dtype=torch.bool)])
        sizes = torch.where(is_last, ends[row], first.roll(-1)) - first
        # Where each packed element stands in the flattened ids; padding of the short ones is never packed.
        places = (row * steps + first).unsqueeze(1) + columns[: int(sizes.max())]
        packed = pack_padded_sequence(places, sizes.cpu(), batch_first=True, enforce_sorted=False)
        place, rest = packed.data, packed[1:]
        start = carry.index_select(1, row).masked_fill(afresh[row, first].view(1, -1, 1), 0)
        read, after = self.gru(PackedSequence(self.token_emb(ids.flatten()[place]), *rest), start)
        hidden = read.data.new_zeros(batch * steps, self.hidden_dim).index_copy(0, place, read.data)
        kept = carry.to(after.dtype).index_copy(1, row[is_last], after[:, is_last])
        return hidden.unflatten(0, (batch, steps)), kept

    def select_rows(self, carry: Tensor, rows: Tensor) -> Tensor:
        """carry [layers, B, D], rows [N] -> [layers, N, D]."""
        return carry.index_select(1, rows)

    def fixed_carry(self, carry: Tensor | FixedCarry, *, batch_size: int, room: int) -> FixedCarry:
        """carry [layers, B, D] -> the weights, and one state [B, D] a layer; `room` asks nothing of them.

        The weights come along because compiled code cannot look into a `torch.nn.GRU`.
        """
        if isinstance(carry, FixedCarry):
            return carry
        names = (f"{part}_l{n}" for n in range(self.gru.num_layers) for part in GRU_PARTS)
        return FixedCarry(tuple(kept_parts(self.gru, name) for name in names), tuple(carry.clone().unbind(0)))

    def fixed_step(self, ids: Tensor, carry: FixedCarry) -> Tensor:
        """ids [B], a state [B, D] for each layer, into which the new one is written -> hidden [B, D]."""
        hidden: Tensor = self.token_emb(ids)
        count = len(GRU_PARTS)
        for layer, state in enumerate(carry.own):
            weights = (whole(*parts) for parts in carry.shared[layer * count : (layer + 1) * count])
            hidden = gru_step(hidden, state, *weights)
            state.copy_(hidden)
        return hidden

    def flops_per_token(self, context: int) -> int:
        """The same at any context: three gates a layer, each a product with the layer's input and with its state."""
        below = [self.gru.input_size] + [self.hidden_dim] * (self.gru.num_layers - 1)
        return sum(2 * 3 * self.hidden_dim * (width + self.hidden_dim) for width in below)


def _trains_on_cpu(embedded: Tensor) -> bool:
    """Where PyTorch's own GRU is slow: a gradient is wanted, on a CPU, in the precision of the parameters."""
    on_cpu = embedded.device.type == "cpu"
    return on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
