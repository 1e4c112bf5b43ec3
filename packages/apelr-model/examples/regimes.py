"""Regimes of a time series: the exact filter inside a PyTorch model of one's own, which has nothing to do with text.

Weekly figures follow one of three rules, and which one holds may change every five weeks. A small network learns the
rules, a matrix how one follows another; neither is told what holds when. Run: python regimes.py
"""

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from apelr_model import ChunkRule, compare_plans, filter_sequence, plan_trellis, smooth_plans

PERIOD = ChunkRule(chunk_size=5)  # observations t = 0 ... 4 share a regime, then 5 ... 9, ...
TRUE_TRANSITION = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.8, 0.2], [0.4, 0.0, 0.6]])


class SwitchingSeries(nn.Module):
    """y_t is normal around mean_k(y_{t-1}) while regime k holds; one network gives all means and spreads."""

    def __init__(self, num_regimes: int, width: int = 32) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 2 * num_regimes))
        self.initial = nn.Parameter(torch.zeros(num_regimes))
        self.transition = nn.Parameter(2.0 * torch.eye(num_regimes))

    def chain(self, series: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """series [B, T + 1] -> what the filter takes: log density [B, T, K] of each value after the first under each
        regime, log-probabilities of the first regime [K] and of each regime after each [K, K], the T periods."""
        mean, log_scale = self.network(series[:, :-1, None]).chunk(2, dim=-1)
        found: Tensor = Normal(mean, log_scale.exp()).log_prob(series[:, 1:, None])
        return found, self.initial.log_softmax(-1), self.transition.log_softmax(-1), PERIOD.index(0, found.shape[1])

    def forward(self, series: Tensor) -> Tensor:
        """series [B, T + 1] -> mean negative log density of a value given all before it, nats."""
        return -filter_sequence(*self.chain(series)).token_log_prob.mean()

    @torch.no_grad()
    def regimes(self, series: Tensor) -> Tensor:
        """series [B, T + 1] -> [B, C] the likeliest regime of each period, given the whole series."""
        return smooth_plans(plan_trellis(*self.chain(series))).log_posterior.argmax(-1)


def generate(count: int, periods: int, seed: int) -> tuple[Tensor, Tensor]:
    """-> series [count, 5 * periods + 1], and the regime of each period [count, periods]: persists, swings, returns."""
    source = torch.Generator().manual_seed(seed)
    regimes = [torch.randint(3, (count,), generator=source)]
    values = [torch.randn(count, generator=source)]
    for t in range(PERIOD.chunk_size * periods):
        if PERIOD.chunk_of(t) == len(regimes):
            regimes.append(torch.multinomial(TRUE_TRANSITION[regimes[-1]], 1, generator=source)[:, 0])
        last = values[-1]
        means = torch.stack([0.9 * last + 0.5, -0.9 * last, 0.0 * last - 1.0])[regimes[-1], torch.arange(count)]
        values.append(means + torch.tensor([0.3, 0.3, 0.1])[regimes[-1]] * torch.randn(count, generator=source))
    return torch.stack(values, dim=1), torch.stack(regimes, dim=1)


def main() -> tuple[float, Tensor]:
    """Fit, print, and return the share of new periods recognised and the learnt transition matrix, in true order."""
    torch.manual_seed(0)
    (series, _), (unseen, truth) = (generate(count=32, periods=12, seed=seed) for seed in (0, 1))
    model = SwitchingSeries(num_regimes=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(201):
        optimizer.zero_grad()
        loss = model(series)
        loss.backward()  # through the filter: no sampling, no expectation-maximisation
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.3f} nats a value")
    found = compare_plans(truth, model.regimes(unseen))
    learnt = model.chain(unseen)[2].detach().exp()[found.matching][:, found.matching]
    print(f"{found.accuracy:.1%} of the periods of new series recognised; learnt transition matrix:")
    print("\n".join("  ".join(f"{p:.2f}" for p in row) for row in learnt.tolist()))
    return found.accuracy, learnt


if __name__ == "__main__":
    main()
