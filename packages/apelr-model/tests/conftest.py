"""Shared fixtures: the device, small models whose plan matters, and the enumeration over all plan paths."""

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import settings

from apelr_model import PlannerLM, TokenBatch, V1Config, build_model

settings.register_profile("apelr", deadline=None, derandomize=True, database=None)
settings.load_profile("apelr")


def pytest_addoption(parser: pytest.Parser) -> None:
    with contextlib.suppress(ValueError):  # a sibling package's tests offer the same option
        parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the model tests run")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    name = request.config.getoption("--device", default="cpu")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here: torch.cuda.is_available() is False")
    return torch.device(name)


@pytest.fixture(scope="session")
def make_model(device: torch.device) -> Callable[..., PlannerLM]:
    """A small model with random planner logits and vocabulary biases, so that beliefs move at every token."""

    def make(
        *, vocab: int = 11, seed: int = 0, dtype: torch.dtype = torch.float64, on: Any = None, **sizes: Any
    ) -> PlannerLM:
        defaults = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 5, "hidden_dim": 7, "fusion_dim": 6}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(V1Config(**{**defaults, **sizes}), vocab)
            with torch.no_grad():
                model.planner.initial_logits.normal_()
                model.planner.transition_logits.normal_()
                model.head.plan_vocab_bias.normal_()
                if model.planner.context_proj is not None:
                    model.planner.context_proj.weight.normal_()
        return model.to(device=device if on is None else on, dtype=dtype).eval()

    return make


@pytest.fixture(scope="session")
def make_batch(device: torch.device) -> Callable[..., TokenBatch]:
    """Rows of random ids with the given lengths, right-padded with id 0."""

    def make(lengths: Sequence[int], *, vocab: int = 11, seed: int = 0, width: int | None = None) -> TokenBatch:
        generator = torch.Generator().manual_seed(seed)
        width = width or max(lengths)
        rows = torch.randint(0, vocab, (len(lengths), width + 1), generator=generator)
        count = torch.tensor(list(lengths))
        valid = torch.arange(width) < count.unsqueeze(1)
        batch = TokenBatch(rows[:, :-1].masked_fill(~valid, 0), rows[:, 1:].masked_fill(~valid, 0), count)
        return batch.to(device)

    return make


@pytest.fixture(scope="session")
def enumerate_paths() -> Callable[..., tuple[list[float], list[list[float]], list[list[float]]]]:
    """Every plan path and its weight: initial x transitions x exp evidence x exp token log-likelihoods."""

    def enumerate_all(
        token_log_probs: Sequence[Sequence[float]],
        initial: Sequence[float],
        transition: Sequence[Sequence[float]],
        chunk_index: Sequence[int],
        evidence: dict[int, Sequence[float]] | None = None,
    ) -> tuple[list[float], list[list[float]], list[list[float]]]:
        """Token probabilities [T], beliefs before [T][K] and after [T][K]; `evidence` by chunk number."""
        states = range(len(initial))
        paths = list(itertools.product(states, repeat=chunk_index[-1] + 1))
        weights = [initial[path[0]] for path in paths]
        entered = 0

        def belief(chunk: int) -> list[float]:
            total = math.fsum(weights)
            shares = [math.fsum(w for w, path in zip(weights, paths, strict=True) if path[chunk] == k) for k in states]
            return [share / total for share in shares] if total else [0.0 for _ in states]

        probabilities, before, after = [], [], []
        for t, chunk in enumerate(chunk_index):
            while entered < chunk:
                entered += 1
                factor = [math.exp(e) for e in evidence[entered]] if evidence else [1.0 for _ in states]
                weights = [
                    w * transition[path[entered - 1]][path[entered]] * factor[path[entered]]
                    for w, path in zip(weights, paths, strict=True)
                ]
            before.append(belief(chunk))
            denominator = math.fsum(weights)
            weights = [w * math.exp(token_log_probs[t][path[chunk]]) for w, path in zip(weights, paths, strict=True)]
            probabilities.append(math.fsum(weights) / denominator if denominator else 0.0)
            after.append(belief(chunk))
        return probabilities, before, after

    return enumerate_all
