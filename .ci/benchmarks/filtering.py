"""the exact filter alone: beside dynamax (jitted) and hmmlearn on the token-level recursion"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from measured import Row, Run, Target, at_most

from apelr_cli.benchmark_limits import LARGE_READ, memory_reads
from apelr_cli.benchmark_timing import Work
from apelr_model import ChunkRule, filter_sequence


class Case(NamedTuple):
    """Sizes, and what is asked of us beside dynamax; chunk lengths are ours, theirs is always one token."""

    rows: int
    targets: int
    states: int
    bounds: dict[int, Target | None]


LIKELIHOOD = "forward, likelihood alone"
"""Without the beliefs, which the compiler then leaves out. Ours always gives them."""
CASES = (
    Case(16, 1024, 16, {16: at_most(1), 1: at_most(3)}),
    Case(16, 1024, 64, {16: at_most(1), 1: at_most(3)}),
    Case(16, 8192, 16, {16: at_most(1), 1: at_most(3)}),
)


def rows(run: Run) -> Iterator[Row]:
    """Ratios to dynamax, forward and with the backward pass; hmmlearn, which has no gradients, forward."""
    for case in CASES:
        size = f"B {case.rows}, T {case.targets}, K {case.states}"
        log_probs, initial, transition = inputs(case, run.device)
        others = dynamax_works(log_probs, initial, transition)
        works = {f"{size}: dynamax, {kind}": work for kind, work in others.items()}
        if case is CASES[0]:
            works[f"{size}: hmmlearn, forward"] = hmmlearn_work(log_probs, initial, transition)
        for length in case.bounds:
            own = own_works(log_probs, initial, transition, length)
            works |= {f"{size}: chunks of {length}, {kind}": work for kind, work in own.items()}
        reads = memory_reads(LARGE_READ, device=run.device)
        times = run.time({**works, **{read.name: read for read in reads}})
        limits = {read.name: read.bytes for read in reads}
        for length, target in case.bounds.items():
            for kind in ("forward", "forward and backward"):
                ours = f"{size}: chunks of {length}, {kind}"
                yield Row(f"{ours}: beside dynamax", times.ratio(ours, f"{size}: dynamax, {kind}"), "x", target)
            ours = f"{size}: chunks of {length}, forward"
            share = times.share_of_rate(ours, filtered_bytes(case), limits)
            yield Row(f"{ours}: of the memory's bandwidth", share, "%")
        for name in works:
            yield Row(name, times.each(name), "ms")


def filtered_bytes(case: Case) -> int:
    """What a filter must at least move: likelihoods in float32; two beliefs and an NLL of each target in float64."""
    return case.rows * case.targets * (case.states * (4 + 8 + 8) + 8)


def inputs(case: Case, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """token_log_probs [B, T, K], log_initial [K], log_transition [K, K] in float32."""
    draw = torch.Generator().manual_seed(0)
    log_probs = -8 * torch.rand(case.rows, case.targets, case.states, generator=draw)
    initial = torch.randn(case.states, generator=draw).log_softmax(-1)
    transition = (torch.randn(case.states, case.states, generator=draw) + 2 * torch.eye(case.states)).log_softmax(-1)
    return log_probs.to(device), initial.to(device), transition.to(device)


def own_works(log_probs: torch.Tensor, initial: torch.Tensor, transition: torch.Tensor, length: int) -> dict[str, Work]:
    """The filter with beliefs of every target, and the gradient of the NLL in all three inputs."""
    segments = ChunkRule(chunk_size=length).segments(torch.arange(log_probs.shape[1]))
    leaves = [tensor.clone().requires_grad_() for tensor in (log_probs, initial, transition)]

    def forward() -> None:
        with torch.no_grad():
            filter_sequence(log_probs, initial, transition, segments)

    def both() -> None:
        torch.autograd.grad(-filter_sequence(*leaves, segments).token_log_prob.sum(), leaves)

    return {"forward": forward, "forward and backward": both}


def dynamax_works(log_probs: torch.Tensor, initial: torch.Tensor, transition: torch.Tensor) -> dict[str, Work]:
    """`hmm_filter`, over rows by vmap and compiled, in float32; the same three gradients."""
    import jax
    from dynamax.hidden_markov_model import hmm_filter

    arrays = [jax.numpy.asarray(tensor.cpu().numpy()) for tensor in (log_probs, initial, transition)]

    def posterior(likelihoods: Any, start: Any, matrix: Any) -> Any:
        return jax.vmap(lambda row: hmm_filter(jax.numpy.exp(start), jax.numpy.exp(matrix), row))(likelihoods)

    forward = jax.jit(posterior)
    likelihood = jax.jit(lambda *values: posterior(*values).marginal_loglik)
    gradient = jax.jit(jax.value_and_grad(lambda *values: -posterior(*values).marginal_loglik.sum(), argnums=(0, 1, 2)))
    return {
        "forward": lambda: jax.block_until_ready(forward(*arrays)),
        "forward and backward": lambda: jax.block_until_ready(gradient(*arrays)),
        LIKELIHOOD: lambda: jax.block_until_ready(likelihood(*arrays)),
    }


def hmmlearn_work(log_probs: torch.Tensor, initial: torch.Tensor, transition: torch.Tensor) -> Work:
    """Its compiled forward pass, row after row, in float64."""
    from hmmlearn import _hmmc

    likelihoods = log_probs.double().cpu().numpy()
    start, matrix = (np.ascontiguousarray(t.double().exp().cpu().numpy()) for t in (initial, transition))
    return lambda: [_hmmc.forward_log(start, matrix, row) for row in likelihoods]
