"""Incremental generation: read the prompts once, then one token a step for every row of the batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, overload

import torch
from torch import Tensor

from apelr_model.errors import ImpossibleObservationError
from apelr_model.generation_step import (
    GeneratedToken,
    Lookahead,
    draw_next,
    plan_lookahead,
    report_tokens,
    reported_belief,
)
from apelr_model.lookahead import PlanForecast
from apelr_model.model_state import ModelState, Reading
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.sampling import SamplingSettings

__all__ = ["GeneratedToken", "check_counts", "check_ids", "generate", "impossible_rows", "read_prompts"]

STRETCH = 512
"""Tokens for which a compiled step has room at a time; it looks at all of it for every token."""


@overload
def generate(
    model: PlannerLM,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    max_new_tokens: int,
    seeds: Sequence[int],
    eos_id: int | None = None,
    lookahead_steps: int = 0,
    async_lookahead: Literal[False] = False,
    policy: PlanPolicy | None = None,
    freeze_planner: bool = False,
    is_finished: Callable[[int], bool] | None = None,
) -> Iterator[GeneratedToken]: ...


@overload
def generate(
    model: PlannerLM,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    max_new_tokens: int,
    seeds: Sequence[int],
    eos_id: int | None = None,
    lookahead_steps: int = 0,
    async_lookahead: bool,
    policy: PlanPolicy | None = None,
    freeze_planner: bool = False,
    is_finished: Callable[[int], bool] | None = None,
) -> Iterator[GeneratedToken | PlanForecast]: ...


def generate(
    model: PlannerLM,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    max_new_tokens: int,
    seeds: Sequence[int],
    eos_id: int | None = None,
    lookahead_steps: int = 0,
    async_lookahead: bool = False,
    policy: PlanPolicy | None = None,
    freeze_planner: bool = False,
    is_finished: Callable[[int], bool] | None = None,
) -> Iterator[GeneratedToken | PlanForecast]:
    """Continue every prompt (ids, at least one each) by up to `max_new_tokens`, yielding tokens as they are made.

    A row ends after `eos_id`, which is yielded, and where `is_finished(row)`, asked after each of its tokens has
    been taken, is true. Each row draws from its own generator, seeded by its entry of `seeds`: its text does not
    depend on the rest of the batch. The prefix is read once; every later step reads one token. `policy` says how the
    belief is used (None: the model's own); with `freeze_planner` it stays, from the end of each prompt, what it is
    there. Sets the model to eval mode.

    `lookahead_steps` only reports; it never changes a distribution. Each token carries its forecast, or with
    `async_lookahead` the forecasts are made while the next token is, and come as events (`PlanForecast`) among the
    tokens: one for every token, in order in each row, no later than between the row's next token and the one after
    that; those of a row that has ended come before any row's next token.

    Raises ValueError for bad arguments, ImpossibleObservationError for a prompt of probability zero and
    NothingLeftError where sampling has nothing to choose from.
    """
    _check_arguments(model, prompts, max_new_tokens, seeds, lookahead_steps)

    def goes_on(row: int, token: int) -> bool:
        return token != eos_id and not (is_finished is not None and is_finished(row))

    policy = model.policy if policy is None else model.check_policy(policy)
    later = model.check_policy(replace(policy, freeze_after=0)) if freeze_planner else policy
    lookahead = plan_lookahead(model, lookahead_steps, beside=async_lookahead)
    return _generate(model, prompts, settings, max_new_tokens, seeds, lookahead, (policy, later), goes_on)


@torch.inference_mode()
def _generate(
    model: PlannerLM,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    max_new_tokens: int,
    seeds: Sequence[int],
    lookahead: Lookahead | None,
    policies: tuple[PlanPolicy, PlanPolicy],
    goes_on: Callable[[int, int], bool],
) -> Iterator[GeneratedToken | PlanForecast]:
    model.eval()
    state = read_prompts(model, prompts, policy=policies[0])
    pending = torch.tensor([prompt[-1] for prompt in prompts], device=model.device)
    histories = [list(prompt) for prompt in prompts]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    seen = torch.zeros(len(prompts), model.vocab_size, dtype=torch.bool, device=model.device)
    for row, prompt in enumerate(prompts):
        seen[row, list(prompt)] = True
    rows = list(range(len(prompts)))
    queue = None if lookahead is None else lookahead.queue
    for number in range(max_new_tokens):
        if number % STRETCH == 0:
            state = model.begin_decoding(state, min(STRETCH, max_new_tokens - number))
        prediction = model.predict(pending, state, policy=policies[1])
        chosen = draw_next(
            model, prediction, settings, seen, [histories[r] for r in rows], [generators[r] for r in rows]
        )
        made = report_tokens(model, prediction, chosen, rows, lookahead, policies[1])
        yield from made
        if queue is not None:
            yield from queue.take()
            positions = [len(histories[row]) - 1 for row in rows]
            queue.begin(reported_belief(prediction, policies[1]), rows, positions, [token.chunk for token in made])
        state = model.observe(prediction, chosen, policy=policies[1])
        ids = chosen.tolist()
        for row, token in zip(rows, ids, strict=True):
            histories[row].append(token)
        seen[torch.arange(len(rows)), chosen] = True
        going = [i for i, (row, token) in enumerate(zip(rows, ids, strict=True)) if goes_on(row, token)]
        if queue is not None and len(going) < len(rows):
            yield from queue.take()
        if not going:
            return
        pending = chosen
        if len(going) < len(rows):
            kept = torch.tensor(going, device=model.device)
            state, seen, pending = model.select_rows(state, kept), seen[kept], chosen[kept]
            rows = [rows[i] for i in going]
    if queue is not None:
        yield from queue.take()


@torch.no_grad()
def read_prompts(model: PlannerLM, prompts: Sequence[Sequence[int]], *, policy: PlanPolicy | None = None) -> ModelState:
    """The state of each prompt (ids) after all of its tokens but the last have been read, and all been observed.

    Raises ImpossibleObservationError for a prompt that has probability zero under every path of plans.
    """
    lengths = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
    longest = int(lengths.max())
    start = model.initial_state(len(prompts))
    if longest == 0:
        return start
    ids = torch.zeros(len(prompts), longest + 1, dtype=torch.long, device=model.device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    ragged = None if bool((lengths == longest).all()) else lengths
    reading = model.read(ids[:, :-1], ids[:, 1:], state=start, lengths=ragged, policy=policy)
    impossible = impossible_rows(reading, torch.arange(longest, device=model.device) < lengths.unsqueeze(1))
    if bool(impossible.any()):
        raise ImpossibleObservationError(f"prompt {int(impossible.nonzero()[0])} has probability zero under every plan")
    return reading.state


def impossible_rows(reading: Reading, valid: Tensor | None = None) -> Tensor:
    """valid [B, T] (bool; None: all) -> bool [B]: rows that have probability zero under every path of plans."""
    # A belief that learns nothing (frozen, or of a control) does not tell of an impossible token further back.
    found = (reading.state_log_probs == -torch.inf).all(-1)
    impossible = (found if valid is None else found & valid).any(-1)
    return impossible | (reading.state.log_belief == -torch.inf).all(-1).to(impossible.device)


def _check_arguments(
    model: PlannerLM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    seeds: Sequence[int],
    lookahead_steps: int,
) -> None:
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("every prompt needs at least one id; start an empty one with the tokenizer's BOS id")
    if len(seeds) != len(prompts):
        raise ValueError(f"seeds must have one entry a prompt ({len(prompts)}), got {len(seeds)}")
    check_counts(max_new_tokens=max_new_tokens, lookahead_steps=lookahead_steps)
    check_ids(model, [*map(max, prompts), *map(min, prompts)])


def check_counts(**counts: int) -> None:
    """Raise ValueError, by name, for a number below 0."""
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name} must be >= 0, got {value}")


def check_ids(model: PlannerLM, ids: Sequence[int]) -> None:
    """Raise ValueError for an id that is not in the model's vocabulary."""
    smallest, largest = min(ids), max(ids)
    if smallest < 0 or largest >= model.vocab_size:
        wrong = smallest if smallest < 0 else largest
        raise ValueError(f"prompt ids must be between 0 and {model.vocab_size - 1}, got {wrong}")
