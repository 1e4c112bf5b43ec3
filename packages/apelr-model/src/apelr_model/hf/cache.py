"""What `generate()` keeps between steps: the executor's state and the belief, moved together."""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Cache

from apelr_model.executor import Carry, Executor
from apelr_model.plan_state import PlanState

__all__ = ["ApelrCache", "Pending"]


class Pending(NamedTuple):
    """Where B rows stand: their last token has been read, and its successor not yet been seen."""

    carry: Carry
    """The executor's: keys and values, or a recurrent state."""
    hidden: Tensor
    """[B, D] the executor's state after the last token."""
    plan: PlanState
    """The planner's part before the next token, any boundary crossed."""


class ApelrCache(Cache):
    """The state of a batch, as transformers' `past_key_values`.

    Beams and repeated prompts reorder everything in it at once. It cannot be rolled back: a belief that has learnt
    from a token does not unlearn it.
    """

    def __init__(self, executor: Executor) -> None:
        """An empty one for models with this executor."""
        super().__init__(layers=[])
        self._executor = executor
        self.pending: Pending | None = None
        """None before anything is read."""
        self.columns = 0
        """Columns of ids read, masked ones among them."""

    def advance(self, pending: Pending, columns: int) -> None:
        """Take up the state after `columns` more columns."""
        self.pending = pending
        self.columns += columns

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns of ids read, masked ones among them; the same for every layer."""
        return self.columns

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """-1: there is no limit."""
        return -1

    @property
    def batch_size(self) -> int:
        """B; -1 before anything is read."""
        return -1 if self.pending is None else len(self.pending.hidden)

    @property
    def is_croppable(self) -> bool:
        """False."""
        return False

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the given rows [N] (integers, repeats allowed), in that order."""
        if self.pending is not None:
            carry, hidden, plan = self.pending
            rows = indices.to(hidden.device)
            moved = PlanState(*(tensor.index_select(0, rows.to(tensor.device)) for tensor in plan))
            self.pending = Pending(self._executor.select_rows(carry, rows), hidden.index_select(0, rows), moved)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] [B] was."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row `repeats` times, one after the other."""
        if self.pending is not None:
            self.batch_select_indices(torch.arange(self.batch_size).repeat_interleave(repeats))

    def reset(self) -> None:
        """Begin anew."""
        self.pending, self.columns = None, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ValueError: a belief cannot be rolled back."""
        raise ValueError("an ApelrCache cannot be cropped: its belief has learnt from the tokens")
