"""A planner over a network of one's own: a causal temporal convolution, joined by the `Executor` interface.

Each plan counts upwards by its own stride; which plan holds may change every 8 tokens. Run: python own_executor.py
"""

import torch
from torch import Tensor, nn

import apelr_model as apelr

VOCAB, STRIDES, CHUNK = 12, torch.tensor([1, 4, 7]), 8


class CausalConvolution(apelr.Executor):
    """Residual convolutions of two taps, dilated by 1, 2, 4, ...: a hidden state sees the last `reach` ids."""

    def __init__(self, vocab_size: int, hidden_dim: int, layers: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.token_emb = nn.Embedding(vocab_size, hidden_dim)
        self.layers = nn.ModuleList(nn.Linear(2 * hidden_dim, hidden_dim) for _ in range(layers))

    @property
    def reach(self) -> int:
        return 1 << len(self.layers)

    def initial_carry(self, batch_size: int) -> Tensor:
        """The ids that later ones still see, [B, reach - 1]; -1 where nothing has been read."""
        return torch.full((batch_size, self.reach - 1), -1, device=self.token_emb.weight.device)

    def forward(
        self, ids: Tensor, carry: Tensor | None, lengths: Tensor | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        before = self.initial_carry(len(ids)) if carry is None else carry
        read = torch.cat([before, ids], dim=1)
        begins = (torch.zeros_like(ids) if restarts is None else restarts).cumsum(1)
        document = torch.cat([before.clamp(max=0), begins], dim=1)  # -1: nothing; then 0, 1, ...
        x = self.token_emb(read.clamp(min=0))
        for level, layer in enumerate(self.layers):
            back = 1 << level  # the tap in the past counts within a document alone
            same = nn.functional.pad(document[:, back:] == document[:, :-back], (back, 0))
            past = nn.functional.pad(x[:, :-back], (0, 0, back, 0)) * same.unsqueeze(-1)
            x = x + nn.functional.gelu(layer(torch.cat([x, past], dim=-1)))
        ends = ids.new_full((len(ids), 1), ids.shape[1]) if lengths is None else lengths.unsqueeze(1)
        kept = ends + torch.arange(self.reach - 1, device=ids.device)
        is_past = document.gather(1, kept) != document.gather(1, kept[:, -1:])
        return x[:, self.reach - 1 :], None if carry is None else read.gather(1, kept).masked_fill(is_past, -1)

    def select_rows(self, carry: Tensor, rows: Tensor) -> Tensor:
        return carry.index_select(0, rows)

    def flops_per_token(self, context: int) -> int:
        return 4 * len(self.layers) * self.hidden_dim**2


def counting(count: int, chunks: int, seed: int) -> tuple[apelr.TokenBatch, Tensor]:
    """Rows of ids in which two steps of three go up by the plan's stride and the third anywhere; the targets' plans."""
    source = torch.Generator().manual_seed(seed)
    plans = torch.randint(len(STRIDES), (count, chunks), generator=source).repeat_interleave(CHUNK, dim=1)
    is_free = torch.rand(plans.shape, generator=source) < 1 / 3
    steps = torch.where(is_free, torch.randint(VOCAB, plans.shape, generator=source), STRIDES[plans])
    ids, lengths = steps.cumsum(1) % VOCAB, torch.full((count,), chunks * CHUNK - 1)
    return apelr.TokenBatch(ids[:, :-1], ids[:, 1:], lengths), plans[:, 1:]


def main() -> apelr.PlannerLM:
    torch.manual_seed(0)
    model = apelr.build_model(apelr.V2Config(num_plan_states=3, chunk_size=CHUNK, hidden_dim=32), VOCAB)
    model.executor = CausalConvolution(VOCAB, hidden_dim=32, layers=1)
    trainer = apelr.Trainer(model, apelr.OptimConfig(lr=0.01, max_steps=200, warmup_steps=10), apelr.V2LossWeights())
    reports = [trainer.train_step(counting(count=16, chunks=6, seed=step)[0]) for step in range(200)]
    print(f"nats a token: {reports[0].loss:.3f} at first, {reports[-1].loss:.3f} at last")
    for token in apelr.generate(model, [[0]], apelr.SamplingSettings(temperature=0.0), max_new_tokens=8, seeds=[0]):
        print(token.id, [round(p, 2) for p in token.belief])
    return model


if __name__ == "__main__":
    main()
