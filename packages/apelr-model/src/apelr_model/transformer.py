"""The transformer executor: pre-norm RMSNorm, rotary positions, grouped-query attention, SwiGLU, a KV cache."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

from apelr_model.attention import Attention, Sight, first_seen, sight
from apelr_model.executor import Carry, Executor
from apelr_model.executor_config import TransformerConfig
from apelr_model.fixed_carry import FixedCarry, FixedColumns, fixed_cache, fixed_sight, widened
from apelr_model.kv_cache import KVBuffer, KVCache
from apelr_model.rotary import Rotary, rotary
from apelr_model.row_product import Projection

__all__ = ["SwiGLU", "TransformerExecutor", "TransformerLayer"]

NORM_EPS = 1e-6
"""Added to the mean square in every RMSNorm; the same in every precision."""
INIT_STD = 0.02
"""Standard deviation of fresh weights (GPT-2, Radford et al. 2019)."""


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x), without biases (Shazeer 2020)."""

    def __init__(self, *, hidden_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.gate_up = Projection(hidden_dim, 2 * mlp_dim, bias=False)
        self.down = Projection(mlp_dim, hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        projected: Tensor = self.down(silu(gate) * up)
        return projected


class TransformerLayer(nn.Module):
    """x + attention(norm x), then x + mlp(norm x), with dropout on what is added."""

    def __init__(self, config: TransformerConfig, *, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_dim, eps=NORM_EPS)
        self.attention = Attention(
            hidden_dim=hidden_dim,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads or config.num_heads,
            dropout=dropout,
        )
        self.mlp_norm = nn.RMSNorm(hidden_dim, eps=NORM_EPS)
        self.mlp = SwiGLU(hidden_dim=hidden_dim, mlp_dim=config.mlp_width(hidden_dim))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, angles: Rotary, seen: Sight, past: KVBuffer | None, columns: int, kept: bool, spare: bool
    ) -> tuple[Tensor, KVBuffer | None]:
        """x [B, S, D], after `columns` columns of `past` -> [B, S, D], and all keys and values where `kept`."""
        mixed, buffer = self.attention(self.attention_norm(x), angles, seen, past, columns, spare)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), buffer if kept else None


class TransformerExecutor(Executor):
    """A decoder that sees all ids, or with `config.window` = w the last w of them in each layer.

    With a window, n layers together reach n * (w - 1) ids back (`reach` is one more: the newest id itself), and the
    carry holds at most w ids. Without one, the carry grows by `cache_bytes_per_token` an id (up to twice that while
    single steps are appended) and nothing is ever dropped: reading beyond the length that the model was trained at
    works, at positions that it has not seen; only the relative distances of ids matter, not where a text begins.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        vocab_size: int,
        token_dim: int,
        hidden_dim: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.config = config
        self.hidden_dim = hidden_dim
        self.token_emb = nn.Embedding(vocab_size, token_dim)
        self.token_proj = Projection(token_dim, hidden_dim, bias=False) if token_dim != hidden_dim else None
        self.layers = nn.ModuleList(
            TransformerLayer(config, hidden_dim=hidden_dim, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(hidden_dim, eps=NORM_EPS)
        self._compiled: list[Callable[..., tuple[Tensor, KVBuffer | None]]] | None = None
        self._initialise()

    def _initialise(self) -> None:
        """Normal weights: small, smaller where layers write into the residual stream; a projection keeps the scale."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("attention.out.weight", "mlp.down.weight"))
                nn.init.normal_(parameter, std=INIT_STD / math.sqrt(2 * len(self.layers)) if writes else INIT_STD)
        if self.token_proj is not None:  # keeps the embeddings' scale: shrunk twice, they learn far too slowly
            nn.init.normal_(self.token_proj.weight, std=self.token_proj.in_features**-0.5)

    @property
    def reach(self) -> int | None:
        """How many ids, the newest included, can influence a hidden state; None without a window."""
        return None if self.config.window is None else len(self.layers) * (self.config.window - 1) + 1

    @property
    def cache_bytes_per_token(self) -> int:
        """Memory of the carry for one id of one row, at the precision of the parameters."""
        heads = self.config.num_kv_heads or self.config.num_heads
        width = self.hidden_dim // self.config.num_heads
        return 2 * len(self.layers) * heads * width * self.token_emb.weight.element_size()

    def initial_carry(self, batch_size: int) -> KVCache:
        """An empty cache."""
        return KVCache(position=torch.zeros(1, dtype=torch.long, device=self.token_emb.weight.device))

    def forward(
        self, ids: Tensor, carry: Carry, lengths: Tensor | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """ids [B, S], a `KVCache`, lengths [B], restarts [B, S] -> hidden [B, S, D], and the cache after the ids."""
        steps, window = ids.shape[1], self.config.window
        start: KVCache = self.initial_carry(len(ids)) if carry is None else carry
        past = start.newest(None if window is None else window - 1)
        if steps > 1:
            past = past.without_unseen()
        earliest = first_seen(past.columns, past.first, restarts)
        seen = sight(past.columns, steps, earliest=earliest, window=window, device=ids.device)
        angles = self._angles(past.position, steps)
        hidden, buffers = self._through_layers(ids, angles, seen, past, kept=carry is not None)
        return hidden, None if carry is None else self._after(past, buffers, steps, lengths, earliest, restarts)

    def _angles(self, start: Tensor, steps: int) -> Rotary:
        width = self.hidden_dim // self.config.num_heads
        return rotary(start, steps, width=width, base=self.config.rope_base, dtype=self.token_emb.weight.dtype)

    def _embedded(self, ids: Tensor) -> Tensor:
        """ids [B, S] -> [B, S, D]. Under autocast products are of low precision; the residual stream is not."""
        embedded: Tensor = self.token_emb(ids)
        return embedded if self.token_proj is None else self.token_proj(embedded).to(embedded.dtype)

    def _through_layers(
        self, ids: Tensor, angles: Rotary, seen: Sight, past: KVCache, *, kept: bool
    ) -> tuple[Tensor, list[KVBuffer]]:
        hidden, buffers = self._embedded(ids), []
        compiled = self._compiled if torch.is_grad_enabled() and not kept else None
        layers: list[Callable[..., tuple[Tensor, KVBuffer | None]]] = compiled or list(self.layers)
        for index, layer in enumerate(layers):
            before = past.buffers[index] if past.columns else None
            arguments = (hidden, angles, seen, before, past.columns, kept, self.config.window is None)
            if self.config.activation_checkpointing and torch.is_grad_enabled():
                hidden, buffer = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                hidden, buffer = layer(*arguments)
            buffers.append(buffer)
        return self.norm(hidden), buffers

    def compile_training(self) -> None:
        """From now on, run each layer through `torch.compile` where gradients are wanted and no carry is."""
        self._compiled = [torch.compile(layer) for layer in self.layers]

    def _after(
        self,
        past: KVCache,
        buffers: list[KVBuffer],
        steps: int,
        lengths: Tensor | None,
        earliest: Tensor | None,
        restarts: Tensor | None,
    ) -> KVCache:
        """The cache of what `past` held and what was just read."""
        first = past.first
        if restarts is not None and earliest is not None:
            first = earliest[:, -1]
            if lengths is not None:
                newest = earliest.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
                first = torch.where(lengths > 0, newest, 0 if past.first is None else past.first)
        cache = KVCache(
            buffers=tuple(buffers),
            columns=past.columns + steps,
            position=past.position + (steps if lengths is None else lengths),
            first=first,
            padding=None if lengths is None else steps - lengths,
        )
        window = self.config.window
        if window is None or (cache.columns <= window and lengths is None):
            return cache
        return cache.newest(window).copied()

    def select_rows(self, carry: KVCache, rows: Tensor) -> KVCache:
        """A `KVCache`, rows [N] -> the cache of these rows, in that order."""
        return carry.select_rows(rows)

    def fixed_carry(self, carry: KVCache | FixedCarry, *, batch_size: int, room: int) -> FixedCarry:
        """A `KVCache` in fixed shapes, or more room in these: see `fixed_cache`."""
        if isinstance(carry, FixedCarry):
            return widened(carry, room=room, window=self.config.window)
        heads = self.config.num_kv_heads or self.config.num_heads
        shape = (heads, self.hidden_dim // self.config.num_heads)
        if not carry.columns:  # nothing has been read, so no layer has keys yet
            empty = self.token_emb.weight.new_zeros(batch_size, heads, 0, shape[1])
            carry = replace(carry, buffers=(KVBuffer(empty, empty),) * len(self.layers))
        return fixed_cache(carry, batch=batch_size, room=room, shape=shape, window=self.config.window)

    def fixed_step(self, ids: Tensor, carry: FixedCarry) -> Tensor:
        """ids [B] read after what `carry` holds, into which they are written -> hidden [B, D]."""
        column, position, first, *tensors = carry.own
        capacity = tensors[0].shape[2]
        columns = [FixedColumns(*pair, column[:1] % capacity) for pair in zip(tensors[::2], tensors[1::2], strict=True)]
        seen = fixed_sight(column[:1], first, capacity)
        angles = self._angles(position, 1)
        hidden = self._embedded(ids.unsqueeze(1))
        for layer, past in zip(self.layers, columns, strict=True):
            hidden, _ = layer(hidden, angles, seen, past, 0, False, True)
        column += 1
        position += 1
        normed: Tensor = self.norm(hidden)
        return normed[:, 0]

    def flops_per_token(self, context: int) -> int:
        """Products with the weights, and with the keys and values of min(`context`, window) ids."""
        weights = sum(p.numel() for n, p in self.named_parameters() if p.ndim == 2 and n != "token_emb.weight")
        seen = context if self.config.window is None else min(context, self.config.window)
        return 2 * weights + 4 * len(self.layers) * seen * self.hidden_dim

    def mean_flops_per_token(self, targets: int) -> float:
        """As `Executor` has it, without going through all weights for each token: attention alone differs."""
        seen = sum(min(t, self.config.window or t) for t in range(1, targets + 1)) / targets
        return self.flops_per_token(1) + 4 * len(self.layers) * (seen - 1) * self.hidden_dim
