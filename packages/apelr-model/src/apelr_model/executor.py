"""The executor: reads token ids and gives a hidden state for every position read."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Executor", "GRUExecutor"]


class Executor(nn.Module, ABC):
    """What a planner needs from a network that reads tokens: whole sequences, and steps with a carry."""

    hidden_dim: int
    """D, width of the hidden states."""

    @abstractmethod
    def initial_carry(self, batch_size: int) -> Tensor:
        """The carry of `batch_size` sequences of which nothing has been read."""

    @abstractmethod
    def forward(self, ids: Tensor, carry: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids [B, S], carry, lengths [B] -> hidden [B, S, D] and the carry after each row's first `lengths` ids.

        `hidden[:, t]` depends on `ids[:, : t + 1]` and the carry alone. Reading in pieces, handing the
        carry on, equals reading at once. `lengths` (default: all of S; 0 is allowed) is for right-padded rows.
        """

    @abstractmethod
    def select_rows(self, carry: Tensor, rows: Tensor) -> Tensor:
        """The carry of the given rows of the batch (integers [N]), in that order."""


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

    def forward(self, ids: Tensor, carry: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids [B, S], carry [layers, B, D], lengths [B] -> hidden [B, S, D], carry [layers, B, D]."""
        embedded = self.token_emb(ids)
        if lengths is None:
            hidden, after = self.gru(embedded, carry)
            return hidden, after
        packed = nn.utils.rnn.pack_padded_sequence(
            embedded, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        packed_hidden, after = self.gru(packed, carry)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(packed_hidden, batch_first=True, total_length=ids.shape[1])
        return hidden, torch.where((lengths > 0).view(1, -1, 1), after, carry)

    def select_rows(self, carry: Tensor, rows: Tensor) -> Tensor:
        """carry [layers, B, D], rows [N] -> [layers, N, D]."""
        return carry.index_select(1, rows)
