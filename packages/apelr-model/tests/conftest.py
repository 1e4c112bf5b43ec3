"""Shared fixtures: the device, small models whose plan matters, and the enumeration over all plan paths."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import settings

from apelr_model import (
    ChunkRule,
    MixtureOfSoftmaxesConfig,
    PlannerLM,
    TokenBatch,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
)
from apelr_model.executor_config import GRUConfig, TransformerConfig

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
    """A small model with random planner logits, gates and vocabulary biases, so that beliefs move at every token."""

    def make(
        *,
        kind: Any = V1Config,
        vocab: int = 11,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        on: Any = None,
        **sizes: Any,
    ) -> PlannerLM:
        defaults = {"num_plan_states": 3, "chunk_size": 4, "token_dim": 5, "hidden_dim": 7, "fusion_dim": 6}
        known = {field.name for field in dataclasses.fields(kind)}
        config = kind(**{**{name: size for name, size in defaults.items() if name in known}, **sizes})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(config, vocab)
            with torch.no_grad():
                for name in RANDOM_PARAMETERS:
                    if name in dict(model.named_parameters()):
                        model.get_parameter(name).normal_()
        return model.to(device=device if on is None else on, dtype=dtype).eval()

    return make


RANDOM_PARAMETERS = (
    "planner.initial_logits",
    "planner.transition_logits",
    "head.plan_vocab_bias",
    "planner.context_proj.weight",
    "head.bias",
    "planner.gate_proj.weight",
)


@pytest.fixture(params=["v1", "v2", "mixture", "lm"])
def version(request: pytest.FixtureRequest) -> type[Any]:
    """The class of each model version's configuration."""
    kinds = {"v1": V1Config, "v2": V2Config, "mixture": MixtureOfSoftmaxesConfig, "lm": TransformerLMConfig}
    return kinds[request.param]


@pytest.fixture(params=["gru", "transformer"])
def executor_sizes(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Sizes of a model with each executor, for `make_model`."""
    executors = {"gru": GRUConfig(), "transformer": TransformerConfig(num_heads=2, num_kv_heads=1, mlp_dim=12)}
    return {"executor": executors[request.param], "hidden_dim": 8, "num_layers": 2}


@pytest.fixture(scope="session")
def make_batch(device: torch.device) -> Callable[..., TokenBatch]:
    """Rows of random ids with the given lengths, right-padded with id 0; `documents` holds each row's own lengths."""

    def make(
        lengths: Sequence[int],
        *,
        vocab: int = 11,
        seed: int = 0,
        width: int | None = None,
        documents: Sequence[Sequence[int]] | None = None,
    ) -> TokenBatch:
        generator = torch.Generator().manual_seed(seed)
        width = width or max(lengths)
        rows = torch.randint(0, vocab, (len(lengths), width + 1), generator=generator)
        count = torch.tensor(list(lengths))
        valid = torch.arange(width) < count.unsqueeze(1)
        positions = None
        if documents is not None:
            clocks = [[t for length in row for t in range(length)] for row in documents]
            positions = torch.tensor([[*clock, *range(clock[-1] + 1, width)][:width] for clock in clocks])
        batch = TokenBatch(rows[:, :-1].masked_fill(~valid, 0), rows[:, 1:].masked_fill(~valid, 0), count, positions)
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


class PlanProblem(NamedTuple):
    """Rows of documents, and every plan path of each document with its weight, by enumeration."""

    arguments: dict[str, Any]
    """What the filter is called with."""
    positions: list[list[int]]
    """[B][T] each target's number in its document."""
    documents: list[list[tuple[int, list[tuple[tuple[int, ...], float]]]]]
    """For each row and document the number of its first run, and (path, weight) of every path."""
    runs: int
    """S, runs in the longest row."""


@pytest.fixture(scope="session")
def plan_problem(device: torch.device) -> Callable[..., PlanProblem]:
    """Random documents in rows, with a third of all probabilities zero where `zeros` says so."""

    def make(
        rows: Sequence[Sequence[int]],
        *,
        seed: int,
        states: int = 2,
        chunk_size: int = 2,
        offset: int = 0,
        zeros: bool = False,
        with_evidence: bool = True,
        padding: Sequence[int] | None = None,
    ) -> PlanProblem:
        """`rows` holds each row's document lengths, of one sum; `padding` counts the masked targets at a row's end."""
        draw = torch.Generator().manual_seed(seed)
        rule = ChunkRule(chunk_size=chunk_size, offset=offset)
        positions = [[t for length in row for t in range(length)] for row in rows]
        segments = rule.segments(torch.tensor(positions))
        observed = -3 * torch.rand(len(rows), len(positions[0]), states, generator=draw, dtype=torch.float64)
        tables = torch.rand(states + 2, states, generator=draw, dtype=torch.float64) + 0.01
        if zeros:
            observed = observed.masked_fill(torch.rand(observed.shape, generator=draw) < 0.2, -math.inf)
            kept = torch.rand(tables.shape, generator=draw) > 0.35
            tables = tables * kept.scatter(-1, torch.randint(0, states, (len(tables), 1), generator=draw), True)
        tables = (tables / tables.sum(-1, keepdim=True)).log()
        evidence = 2 * torch.randn(len(rows), segments.runs, states, generator=draw, dtype=torch.float64)
        padding = [0] * len(rows) if padding is None else padding
        steps = torch.arange(observed.shape[1])
        mask = steps < len(steps) - torch.tensor(list(padding)).unsqueeze(1)
        documents = [
            list(
                _documents(
                    row,
                    rule,
                    observed[b].tolist(),
                    [tables[0 if d else 1].tolist() for d in range(len(row))],
                    tables[2:].tolist(),
                    evidence[b].tolist() if with_evidence else None,
                    len(steps) - padding[b],
                )
            )
            for b, row in enumerate(rows)
        ]
        arguments = {
            "token_log_probs": observed.to(device),
            "log_initial": tables[1].to(device),
            "log_restart": tables[0].to(device),
            "log_transition": tables[2:].to(device),
            "chunks": segments._replace(restarts=segments.restarts & (segments.first > 0)),
            "evidence": evidence.to(device) if with_evidence else None,
            "mask": mask.to(device),
        }
        return PlanProblem(arguments, positions, documents, segments.runs)

    return make


def _documents(
    lengths: Sequence[int],
    rule: ChunkRule,
    observed: list[list[float]],
    starts: list[list[float]],
    transition: list[list[float]],
    evidence: list[list[float]] | None,
    end: int,
) -> Any:
    """Each document's first run and its weighted paths; targets from `end` on are padding."""
    run = first = 0
    states = range(len(transition))
    for length, start in zip(lengths, starts, strict=True):
        chunks = [[t for t in range(length) if rule.chunk_of(t) == c] for c in range(rule.chunk_of(length - 1) + 1)]
        seen = [[first + t for t in chunk if first + t < end] for chunk in chunks]
        while seen and not seen[-1]:
            seen.pop()
        paths = []
        for path in itertools.product(states, repeat=len(seen)) if seen else ():
            weight = math.exp(start[path[0]])
            for c, targets in enumerate(seen):
                if c:
                    weight *= math.exp(transition[path[c - 1]][path[c]])
                    weight *= math.exp(evidence[run + c][path[c]]) if evidence else 1.0
                weight *= math.exp(math.fsum(observed[t][path[c]] for t in targets))
            paths.append((path, weight))
        yield run, paths
        run, first = run + len(chunks), first + length
