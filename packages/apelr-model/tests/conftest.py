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
    PlanPolicy,
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


def _apply(weight: Any, vector: Any, bias: Any = None) -> list[float]:
    products = [math.fsum(w * x for w, x in zip(row, vector, strict=True)) for row in weight]
    return products if bias is None else [a + b for a, b in zip(products, bias, strict=True)]


def _softmax(scores: Sequence[float]) -> list[float]:
    peak = max(scores)
    weights = [math.exp(score - peak) for score in scores]
    return [weight / math.fsum(weights) for weight in weights]


def _plain_gru(values: dict[str, Any], layers: int, size: int, ids: Sequence[int]) -> list[list[float]]:
    states = [[0.0] * size for _ in range(layers)]
    hidden = []
    for token in ids:
        signal = values["executor.token_emb.weight"][token]
        for layer in range(layers):
            old = states[layer]
            read, kept = (
                _apply(values[f"executor.gru.weight_{kind}_l{layer}"], x, values[f"executor.gru.bias_{kind}_l{layer}"])
                for kind, x in (("ih", signal), ("hh", old))
            )
            reset = [1 / (1 + math.exp(-read[i] - kept[i])) for i in range(size)]
            update = [1 / (1 + math.exp(-read[size + i] - kept[size + i])) for i in range(size)]
            new = [math.tanh(read[2 * size + i] + reset[i] * kept[2 * size + i]) for i in range(size)]
            signal = [(1 - update[i]) * new[i] + update[i] * old[i] for i in range(size)]
            states[layer] = signal
        hidden.append(signal)
    return hidden


def _plain_words(values: dict[str, Any], states: int, vocab: int, hidden: Sequence[float]) -> list[list[float]]:
    """[K][V] of one position, in the form of the head that the model has."""
    if "head.weight" in values:
        rows, bias = values["head.weight"], values["head.bias"]
        return [_softmax(_apply(rows[k * vocab : (k + 1) * vocab], hidden, bias[k])) for k in range(states)]
    shared = _apply(values["head.state_proj.weight"], hidden, values["head.state_proj.bias"])
    of_states = []
    for embedding, bias in zip(values["head.plan_emb.weight"], values["head.plan_vocab_bias"], strict=True):
        plan = _apply(values["head.plan_proj.weight"], embedding)
        fused = [math.tanh(a + b) for a, b in zip(shared, plan, strict=True)]
        logits = _apply(values["head.out_proj.weight"], fused, values["head.out_proj.bias"])
        of_states.append(_softmax([a + b for a, b in zip(logits, bias, strict=True)]))
    return of_states


@pytest.fixture(scope="session")
def plain_model() -> Callable[..., tuple[list[list[list[float]]], dict[int, list[float]]]]:
    """A model with a GRU from the equations of its version, with Python floats only."""

    def forward(model: PlannerLM, ids: Sequence[int]) -> tuple[list[list[list[float]]], dict[int, list[float]]]:
        """ids x_0 ... -> token distributions [T][K][V], and the evidence at each target before which a boundary lies.

        V1: before target t = L, 2L, ..., read from h_t. V2: before t = L - 1, 2L - 1, ..., from the mean of
        h over the L inputs of the chunk just completed.
        """
        values = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
        config = model.config
        hidden = _plain_gru(values, config.num_layers, config.hidden_dim, ids)
        states = len(values["planner.initial_logits"])
        words = [_plain_words(values, states, model.vocab_size, h) for h in hidden]
        boundaries: dict[int, list[float]] = {}
        for t in range(len(ids)):
            if isinstance(config, V2Config):
                completed = hidden[t + 1 - config.chunk_size : t + 1] if (t + 1) % config.chunk_size == 0 else None
            else:
                completed = [hidden[t]] if t > 0 and t % config.chunk_size == 0 else None
            if completed is None:
                continue
            mean = [math.fsum(column) / len(completed) for column in zip(*completed, strict=True)]
            boundaries[t] = [0.0] * states
            if config.boundary_evidence:
                read = _apply(values["planner.context_proj.weight"], mean, values["planner.context_proj.bias"])
                boundaries[t] = [config.planner_context_scale * e for e in read]
        return words, boundaries

    return forward


@pytest.fixture(scope="session")
def plain_policy() -> Callable[..., list[tuple[float, list[float], list[float], list[float]]]]:
    """A policy on a filtered belief, token by token and with probabilities: no logarithms, no chunks at once."""

    def run(
        words: Sequence[Sequence[Sequence[float]]],
        targets: Sequence[int],
        boundaries: dict[int, list[float]],
        initial: Sequence[float],
        transition: Sequence[Sequence[float]],
        policy: PlanPolicy,
    ) -> list[tuple[float, list[float], list[float], list[float]]]:
        """For each target: its probability, the belief before it, the gate, and the belief after it."""
        states = range(len(initial))

        def normalised(weights: list[float]) -> list[float]:
            total = math.fsum(weights)
            return [w / total for w in weights] if total else weights

        def moved(belief: Sequence[float]) -> list[float]:
            return [math.fsum(belief[i] * transition[i][j] for i in states) for j in states]

        belief, found = list(initial), []
        for t, target in enumerate(targets):
            frozen = policy.freeze_after is not None and t >= policy.freeze_after
            if t in boundaries and not frozen:
                belief = normalised([b * math.exp(e) for b, e in zip(moved(belief), boundaries[t], strict=True)])
            ahead, forecasts = belief, [0.0 for _ in states]
            for _ in range(policy.lookahead_horizon):
                ahead = moved(ahead)
                forecasts = [f + a / policy.lookahead_horizon for f, a in zip(forecasts, ahead, strict=True)]
            scale = policy.feedback_scale
            mix = [(1 - scale) * b + scale * f for b, f in zip(belief, forecasts, strict=True)]
            gate = normalised([m ** (1 / policy.temperature) for m in mix])
            if policy.mode == "uniform":
                gate = [1 / len(states) for _ in states]
            if policy.force_state is not None:
                gate = [float(k == policy.force_state) for k in states]
            likelihoods = [words[t][k][target] for k in states]
            before = belief
            if policy.token_filtering and not frozen:
                belief = normalised([b * p for b, p in zip(belief, likelihoods, strict=True)])
            found.append((math.fsum(g * p for g, p in zip(gate, likelihoods, strict=True)), before, gate, belief))
        return found

    return run


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
