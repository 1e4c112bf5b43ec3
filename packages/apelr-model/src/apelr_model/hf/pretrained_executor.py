"""Any causal language model of the transformers library as an executor: its last hidden states are what is read."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from apelr_model.executor import Carry, Executor

__all__ = ["PretrainedExecutor", "differ", "eval_mode"]


@dataclass(frozen=True, kw_only=True)
class _ReadCache:
    """What a base model keeps of B rows, aligned at their newest id."""

    cache: DynamicCache
    """Keys and values of every layer, in columns shared by all rows."""
    position: Tensor
    """[B] ids read so far: the position of the next one."""
    first: Tensor
    """[B] the first column that belongs to the row."""


class PretrainedExecutor(Executor):
    """The decoder of a causal language model with attention and a key-value cache (Llama, GPT-2, Qwen, ...).

    `freeze` keeps its weights as they are: without gradient, out of the optimizer, and in eval mode whatever the rest
    of the model does. Without it those that require a gradient are trained; all, where none does. Documents packed into
    one row are each read as a row of their own.
    """

    def __init__(self, base: PreTrainedModel, *, freeze: bool = True) -> None:
        """`base` is used, not copied, and reads two short texts here.

        Raises ValueError for a model whose state is not made of keys and values, or that sees ids before they come.
        """
        super().__init__()
        config = base.config.get_text_config(decoder=True)
        if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
            raise ValueError(f"{type(base).__name__} is no decoder with one hidden_size")
        layers = DynamicCache(config=config).layers
        if not all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
            raise ValueError(f"{type(base).__name__} keeps more than keys and values: its state cannot be gone on from")
        self.base = base
        self.hidden_dim = config.hidden_size
        self.freeze = freeze
        self._out: Tensor
        self.register_buffer("_out", torch.zeros(()), persistent=False)  # the precision that planner and head have
        if freeze:
            base.requires_grad_(False)
            base.eval()
        elif not any(parameter.requires_grad for parameter in base.parameters()):
            base.requires_grad_()
        self._check_hidden()

    def _check_hidden(self) -> None:
        """Raises ValueError where two texts that begin alike have other hidden states there, or of another width."""
        name, ids = type(self.base).__name__, torch.tensor([[0, 0], [0, 1]], device=self.base.device)
        with eval_mode(self.base):
            hidden = self._hidden(ids, use_cache=False)
        if hidden.shape[-1] != self.hidden_dim:
            raise ValueError(f"{name} has hidden states of width {hidden.shape[-1]}, not its hidden_size")
        if differ(hidden[0, 0], hidden[1, 0], self.base.dtype):
            raise ValueError(f"{name} sees ids before they come: it is no decoder")

    @property
    def vocab_size(self) -> int:
        """V of the base model's embedding."""
        return int(self.token_emb.num_embeddings)

    @property
    def token_emb(self) -> nn.Embedding:  # type: ignore[override]  # the base model's own, registered there
        """[V, E]."""
        found = self.base.get_input_embeddings()
        assert isinstance(found, nn.Embedding), "a decoder of token ids has an embedding"
        return found

    def train(self, mode: bool = True) -> Self:
        """As of any module; a frozen base model stays in eval mode."""
        super().train(mode)
        if self.freeze:
            self.base.eval()
        return self

    def initial_carry(self, batch_size: int) -> _ReadCache:
        """An empty cache."""
        nothing = torch.zeros(batch_size, dtype=torch.long, device=self.base.device)
        return _ReadCache(cache=DynamicCache(), position=nothing, first=nothing)

    def forward(
        self, ids: Tensor, carry: Carry, lengths: Tensor | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """ids [B, S], lengths [B], restarts [B, S] -> hidden [B, S, D], and what to go on from."""
        if restarts is None or not bool(restarts.any()):
            return self._read(ids, carry, lengths)
        return self._read_documents(ids, carry, lengths, restarts)

    def _read(self, ids: Tensor, start: _ReadCache | None, lengths: Tensor | None) -> tuple[Tensor, _ReadCache | None]:
        """Padding at the right is read too: nothing before it sees it, and nothing of it is kept."""
        if start is None:
            return self._hidden(ids, use_cache=False), None
        cache = copy.copy(start.cache)  # reading puts new tensors into the copy
        cache.layers = [copy.copy(layer) for layer in start.cache.layers]
        columns, steps = cache.get_seq_length(), ids.shape[1]
        column = torch.arange(columns + steps, device=ids.device)
        mask = (column >= start.first.unsqueeze(1)).long() if bool(start.first.any()) else None
        positions = start.position.unsqueeze(1) + torch.arange(steps, device=ids.device)
        hidden = self._hidden(ids, past_key_values=cache, attention_mask=mask, position_ids=positions, use_cache=True)
        read = torch.full_like(start.position, steps) if lengths is None else lengths
        after = _ReadCache(cache=cache, position=start.position + read, first=start.first)
        return hidden, after if lengths is None else _without_padding(after, steps - lengths)

    def _hidden(self, ids: Tensor, **more: object) -> Tensor:
        """ids [B, S] -> [B, S, D]."""
        hidden: Tensor = self.base.base_model(input_ids=ids, **more).last_hidden_state
        return hidden.to(self._out.dtype)

    def _read_documents(
        self, ids: Tensor, carry: _ReadCache | None, lengths: Tensor | None, restarts: Tensor
    ) -> tuple[Tensor, _ReadCache | None]:
        """Every stretch between restarts as a row of its own, that of an empty row included."""
        batch, steps = ids.shape
        ends = ids.new_full((batch,), steps) if lengths is None else lengths
        column = torch.arange(steps, device=ids.device)
        afresh = restarts & (column < ends.unsqueeze(1))
        row, first = (afresh | (column == 0)).nonzero(as_tuple=True)  # in order of rows, and of columns in a row
        is_last = torch.cat([row[1:] != row[:-1], row.new_ones(1, dtype=torch.bool)])
        sizes = torch.where(is_last, ends[row], first.roll(-1)) - first
        column = column[: max(1, int(sizes.max()))]
        inside = column < sizes.unsqueeze(1)
        place = ((row * steps + first).unsqueeze(1) + column).masked_fill(~inside, 0)
        start = None if carry is None else _emptied(self.select_rows(carry, row), afresh[row, first])
        hidden, after = self._read(ids.flatten()[place], start, sizes)
        whole = hidden.new_zeros(batch * steps, self.hidden_dim).index_copy(0, place[inside], hidden[inside])
        kept = None if after is None else self.select_rows(after, is_last.nonzero().squeeze(1))
        return whole.unflatten(0, (batch, steps)), kept

    def select_rows(self, carry: _ReadCache, rows: Tensor) -> _ReadCache:
        """rows [N] -> what to go on from in these rows, in that order."""
        return _ReadCache(
            cache=_changed(carry.cache, lambda states: states.index_select(0, rows)),
            position=carry.position[rows],
            first=carry.first[rows],
        )

    def flops_per_token(self, context: int) -> int:
        """Products with every matrix but the embedding, and of attention with `context` keys and values a layer."""
        decoder = self.base.base_model
        embedding = self.token_emb.weight
        weights: int = sum(p.numel() for p in decoder.parameters() if p.ndim >= 2 and p is not embedding)
        layers = int(self.base.config.get_text_config(decoder=True).num_hidden_layers)
        return 2 * weights + 4 * layers * context * self.hidden_dim


@contextmanager
def eval_mode(base: PreTrainedModel) -> Iterator[None]:
    """Without dropout and gradient in here; afterwards in the mode that it had."""
    training = base.training
    base.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        base.train(training)


def differ(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors that a model of this type has made differ by more than rounding."""
    return bool((one - other).abs().max() > 8 * torch.finfo(dtype).eps * one.abs().max())


def _emptied(read: _ReadCache, rows: Tensor) -> _ReadCache:
    """rows [B] (bool): those of which nothing that was read is seen any more."""
    return _ReadCache(
        cache=read.cache,
        position=read.position.masked_fill(rows, 0),
        first=read.first.masked_fill(rows, read.cache.get_seq_length()),
    )


def _without_padding(read: _ReadCache, padding: Tensor) -> _ReadCache:
    """padding [B] columns at each row's right end, squeezed out: rows move right, so that their newest ids align."""
    columns = read.cache.get_seq_length()
    column = torch.arange(columns, device=padding.device) - padding.unsqueeze(1)
    index = column.clamp(min=0)[:, None, :, None]

    def moved(states: Tensor) -> Tensor:
        return states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))

    return _ReadCache(cache=_changed(read.cache, moved), position=read.position, first=read.first + padding)


def _changed(cache: DynamicCache, change: Callable[[Tensor], Tensor]) -> DynamicCache:
    """The cache with `change` made of every layer's keys and values [B, G, C, width]."""
    made = copy.copy(cache)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in made.layers:
        layer.keys, layer.values = change(layer.keys), change(layer.values)
    return made
